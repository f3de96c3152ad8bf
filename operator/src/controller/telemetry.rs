//! Which changes of a status are worth a write: figures at most every 30 seconds and on more than 5 % change, progress at most every 5
//! seconds, everything else at once.

use cllm_crds::status_page::Progress;
use cllm_crds::{CllmModelStatus, CllmTrainingStatus, Throughput};
use k8s_openapi::jiff::Timestamp;

use crate::training::summary;

const INTERVAL_SECONDS: i64 = 30;
const RELEVANT_CHANGE: f64 = 0.05;
/// Every write makes whoever watches look, the operator among them.
const PROGRESS_SECONDS: i64 = 5;

/// The status to write: with the figures that it had if the new ones are not worth a write.
pub(super) fn settle_model(next: CllmModelStatus, previous: &CllmModelStatus) -> CllmModelStatus {
    let keep = match (&next.throughput, &previous.throughput) {
        (Some(new), Some(old)) => !is_worth_writing(new, old),
        _ => false,
    };
    if keep { CllmModelStatus { throughput: previous.throughput.clone(), ..next } } else { next }
}

/// The same for a training: progress moves by whole percents, at most every 5 seconds, or every 30 seconds.
pub(super) fn settle_training(next: CllmTrainingStatus, previous: &CllmTrainingStatus) -> CllmTrainingStatus {
    let keep = match (&next.progress, &previous.progress) {
        (Some(new), Some(old)) if next.stage == previous.stage => {
            let least =
                if new.progress_percentage == old.progress_percentage { INTERVAL_SECONDS } else { PROGRESS_SECONDS };
            !has_aged(new, old, least)
        }
        _ => false,
    };
    if !keep {
        return next;
    }
    let mut next = CllmTrainingStatus { progress: previous.progress.clone(), ..next };
    next.summary = next.summary.is_some().then(|| summary(&next));
    next
}

fn is_worth_writing(new: &Throughput, old: &Throughput) -> bool {
    let changed = |new: &str, old: &str| match (new.parse::<f64>(), old.parse::<f64>()) {
        (Ok(new), Ok(old)) => (new - old).abs() > RELEVANT_CHANGE * old.abs(),
        _ => new != old,
    };
    let capacity = |figures: &Throughput| figures.capacity_tokens_per_second.clone().unwrap_or_default();
    seconds_between(&old.measured_at, &new.measured_at).is_none_or(|age| age >= INTERVAL_SECONDS)
        && (changed(&new.tokens_per_second, &old.tokens_per_second)
            || changed(&capacity(new), &capacity(old))
            || changed(&new.tokens_per_forward, &old.tokens_per_forward))
}

fn has_aged(new: &Progress, old: &Progress, seconds: i64) -> bool {
    seconds_between(&old.last_updated_time, &new.last_updated_time).is_none_or(|age| age >= seconds)
}

fn seconds_between(earlier: &str, later: &str) -> Option<i64> {
    let second = |text: &str| text.parse::<Timestamp>().ok().map(Timestamp::as_second);
    Some(second(later)? - second(earlier)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(tokens_per_second: &str, capacity: Option<&str>, measured_at: &str) -> CllmModelStatus {
        let throughput = Throughput {
            tokens_per_second: tokens_per_second.to_owned(),
            capacity_tokens_per_second: capacity.map(str::to_owned),
            tokens_per_forward: "3.00".to_owned(),
            measured_at: measured_at.to_owned(),
        };
        CllmModelStatus { throughput: Some(throughput), ..CllmModelStatus::default() }
    }

    #[test]
    fn throughput_is_written_after_30_seconds_and_5_percent() {
        let previous = model("100.0", Some("400.0"), "2026-01-01T00:00:00Z");
        for (rate, capacity, time, is_written) in [
            ("200.0", Some("400.0"), "2026-01-01T00:00:29Z", false),
            ("104.9", Some("419.0"), "2026-01-01T00:01:00Z", false),
            ("105.1", Some("400.0"), "2026-01-01T00:00:30Z", true),
            ("94.0", Some("400.0"), "2026-01-01T00:01:00Z", true),
            ("100.0", Some("421.0"), "2026-01-01T00:01:00Z", true),
            ("100.0", None, "2026-01-01T00:01:00Z", true),
        ] {
            let next = model(rate, capacity, time);
            let settled = settle_model(next.clone(), &previous);
            assert_eq!(settled, if is_written { next } else { previous.clone() }, "{rate} of {capacity:?} at {time}");
        }
        assert_eq!(settle_model(previous.clone(), &CllmModelStatus::default()), previous);
    }

    #[test]
    fn progress_is_written_by_whole_percents_after_5_seconds_or_after_30_seconds() {
        let at = |percent, time: &str| {
            let progress =
                Progress { progress_percentage: percent, last_updated_time: time.to_owned(), ..Progress::default() };
            CllmTrainingStatus { progress: Some(progress), ..CllmTrainingStatus::default() }
        };
        let previous = at(10, "2026-01-01T00:00:00Z");
        for (percent, time, is_written) in [
            (10, "2026-01-01T00:00:20Z", false),
            (11, "2026-01-01T00:00:04Z", false),
            (11, "2026-01-01T00:00:05Z", true),
            (10, "2026-01-01T00:00:31Z", true),
        ] {
            let next = at(percent, time);
            let settled = settle_training(next.clone(), &previous);
            assert_eq!(settled, if is_written { next } else { previous.clone() }, "{percent} at {time}");
        }
    }
}
