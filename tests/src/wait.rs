//! Waiting for a cluster to reach a state, with a time-out that tells what was there instead.

use std::{fmt::Debug, time::Duration};

use kube::Api;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, timeout_at};

/// Between two probes: far below what a person notices, far above what a probe costs.
const PAUSE: Duration = Duration::from_millis(100);

/// Something awaited did not come.
#[derive(Debug, thiserror::Error)]
#[error("waited {timeout:?} for {what}, but last saw: {last}")]
pub struct TimedOut {
    /// What was awaited.
    pub what: String,
    /// How long.
    pub timeout: Duration,
    /// What the last probe saw instead.
    pub last: String,
}

/// Calls `probe` until it returns `Ok`, and returns that value.
///
/// The `Err` of a probe is not a failure: it is what was seen this time, and the time-out error
/// repeats the last one. A probe that itself hangs is cut off at the time-out too.
///
/// ```no_run
/// # async fn example() -> Result<(), cllm_tests::TimedOut> {
/// # async fn count() -> usize { 3 }
/// let three = cllm_tests::eventually("three pods", std::time::Duration::from_secs(10), async || {
///     let seen = count().await;
///     if seen == 3 { Ok(seen) } else { Err(format!("{seen} pods")) }
/// });
/// # three.await?; Ok(()) }
/// ```
pub async fn eventually<T, Seen: ToString>(
    what: &str,
    timeout: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, Seen>,
) -> Result<T, TimedOut> {
    let deadline = Instant::now() + timeout;
    let mut last = "nothing: the first look did not return".to_owned();
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) => break,
        }
        // `timeout_at` alone would not do: it never cuts off a probe that answers at once.
        if Instant::now() + PAUSE > deadline {
            break;
        }
        sleep(PAUSE).await;
    }
    Err(TimedOut { what: what.to_owned(), timeout, last })
}

/// Reads the object `name` until `accept` returns something for it, and returns that.
///
/// The time-out error shows the object as it last was.
pub async fn eventually_object<K, T>(
    api: &Api<K>,
    name: &str,
    what: &str,
    timeout: Duration,
    mut accept: impl FnMut(&K) -> Option<T>,
) -> Result<T, TimedOut>
where
    K: Clone + DeserializeOwned + Debug + Serialize,
{
    eventually(what, timeout, async || match api.get_opt(name).await {
        Ok(Some(object)) => accept(&object).ok_or_else(|| shown(&object)),
        Ok(None) => Err(format!("there is no `{name}`")),
        Err(error) => Err(error.to_string()),
    })
    .await
}

/// The object as indented JSON without `managedFields`, which are most of it and tell nothing here.
fn shown(object: &impl Serialize) -> String {
    let mut value = match serde_json::to_value(object) {
        Ok(value) => value,
        Err(error) => return format!("an object that cannot be shown: {error}"),
    };
    if let Some(metadata) = value.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    format!("{value:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_accepted_value_is_returned() {
        let mut seen = 0;
        let three = eventually("three", Duration::from_secs(5), async || {
            seen += 1;
            if seen == 3 { Ok(seen) } else { Err(seen) }
        });
        assert_eq!(three.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_time_out_says_what_was_awaited_and_what_was_last_seen() {
        let never = eventually("the cows", Duration::from_millis(50), async || Err::<(), _>("an empty road"));
        let message = never.await.unwrap_err().to_string();
        assert_eq!(message, "waited 50ms for the cows, but last saw: an empty road");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_is_cut_off() {
        let hangs = eventually("an answer", Duration::from_millis(50), async || {
            std::future::pending::<Result<(), &str>>().await
        });
        assert!(hangs.await.unwrap_err().to_string().contains("the first look did not return"));
    }
}
