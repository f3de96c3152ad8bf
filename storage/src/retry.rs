//! When to try again, and after how long. Decides only; waits nowhere.

use std::time::Duration;

use rand::Rng;

use crate::error::{Result, StorageError};

/// The longest that a `Retry-After` is obeyed in one go.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How patient a download is.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Failures in a row, without a byte between them, after which it gives up.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause that is not asked for by the other side.
    pub longest_pause: Duration,
    /// Without a byte for this long a connection counts as broken.
    pub silence: Duration,
}

impl Default for RetryPolicy {
    /// About five minutes of trying.
    fn default() -> Self {
        Self {
            attempts: 12,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            silence: Duration::from_secs(60),
        }
    }
}

/// The failures in a row.
pub(crate) struct Backoff<'a> {
    policy: &'a RetryPolicy,
    failures: u32,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// The pause before the next try, or the error where no further try is made. Progress forgives earlier failures.
    pub(crate) fn pause(&mut self, error: StorageError, progressed: bool) -> Result<Duration> {
        self.failures = if progressed { 1 } else { self.failures + 1 };
        let StorageError::Unavailable { retry_after, .. } = &error else { return Err(error) };
        if self.failures >= self.policy.attempts {
            return Err(error);
        }
        let doubled = self.policy.first_pause.saturating_mul(1 << (self.failures - 1).min(20));
        let pause = doubled.min(self.policy.longest_pause);
        // many replicas must not come back in the same moment
        let spread = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        Ok(retry_after.map_or(spread, |asked| asked.min(LONGEST_PAUSE)))
    }
}

/// Tries until it works, or fails for good.
pub(crate) async fn with_retries<T>(policy: &RetryPolicy, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut backoff = Backoff::new(policy);
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => {
                let text = error.to_string();
                let pause = backoff.pause(error, false)?;
                tracing::warn!(pause_seconds = pause.as_secs_f32(), "{text}");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_are_forgiven_by_progress_and_end() {
        let policy = RetryPolicy { attempts: 4, ..RetryPolicy::default() };
        let broken = || StorageError::unavailable("GET x", "broken");
        let mut backoff = Backoff::new(&policy);
        for factor in [1, 2, 4] {
            let longest = policy.first_pause * factor;
            let pause = backoff.pause(broken(), false).unwrap();
            assert!(pause <= longest && pause >= longest / 2, "{pause:?}");
        }
        assert!(backoff.pause(broken(), true).unwrap() <= policy.first_pause);
        for _ in 0..2 {
            backoff.pause(broken(), false).unwrap();
        }
        backoff.pause(broken(), false).unwrap_err();
    }

    #[test]
    fn the_other_side_says_how_long_and_a_refusal_ends_it() {
        let policy = RetryPolicy::default();
        let mut backoff = Backoff::new(&policy);
        let asked = |seconds| StorageError::Unavailable {
            asked: "GET x".to_owned(),
            problem: "429".to_owned(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(backoff.pause(asked(7), false).unwrap(), Duration::from_secs(7));
        assert_eq!(backoff.pause(asked(86_400), false).unwrap(), LONGEST_PAUSE);
        backoff.pause(StorageError::Changed { file: "a".to_owned() }, true).unwrap_err();
    }
}
