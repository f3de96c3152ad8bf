//! A training's status in the words that `kubectl get` prints.

use cllm_crds::conditions::types;
use cllm_crds::report::Quality;
use cllm_crds::{CllmTrainingStatus, TrainingStage, TrainingSummary};

use crate::conditions::is_true;

/// Of a status, of which everything else is known.
pub fn summary(status: &CllmTrainingStatus) -> TrainingSummary {
    let stage = status.stage.unwrap_or(TrainingStage::Pending);
    let has_ended = matches!(stage, TrainingStage::Succeeded | TrainingStage::Failed);
    let is_suspended = is_true(&status.conditions, types::SUSPENDED) && !has_ended;
    let progress = status.progress.as_ref();
    let remaining = progress.and_then(|progress| progress.estimated_remaining_seconds);
    TrainingSummary {
        stage: if is_suspended { "Suspended".to_owned() } else { format!("{stage:?}") },
        progress: progress.map(|progress| format!("{}%", progress.progress_percentage)),
        eta: remaining.filter(|_| !has_ended && !is_suspended).map(duration),
        speedup: status.speedup.as_ref().map(|speedup| format!("{}x", speedup.over_target)),
        quality: status.quality.as_ref().map(quality),
    }
}

fn quality(measured: &Quality) -> String {
    if measured.is_perplexity() { format!("perplexity {}", measured.cllm) } else { format!("{}%", measured.cllm) }
}

/// As kubectl writes an age: the longer, the coarser.
fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (seconds, seconds % 60, minutes % 60) {
        (0..120, ..) => format!("{seconds}s"),
        (120..600, rest @ 1.., _) => format!("{minutes}m{rest}s"),
        (120..10_800, ..) => format!("{minutes}m"),
        (10_800..28_800, _, rest @ 1..) => format!("{hours}h{rest}m"),
        _ => format!("{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use cllm_crds::report::Speedup;
    use cllm_crds::status_page::Progress;

    use super::*;

    fn training() -> CllmTrainingStatus {
        let progress =
            Progress { progress_percentage: 42, estimated_remaining_seconds: Some(200), ..Progress::default() };
        CllmTrainingStatus {
            stage: Some(TrainingStage::Training),
            progress: Some(progress),
            ..CllmTrainingStatus::default()
        }
    }

    #[test]
    fn figures_have_their_units() {
        let running = summary(&training());
        let words =
            |summary: &TrainingSummary| [summary.progress.clone(), summary.eta.clone(), summary.speedup.clone()];
        assert_eq!(words(&running), [Some("42%".to_owned()), Some("3m20s".to_owned()), None]);

        let ended = summary(&CllmTrainingStatus {
            stage: Some(TrainingStage::Succeeded),
            speedup: Some(Speedup { over_target: "2.10".to_owned(), ..Speedup::default() }),
            quality: Some(Quality { cllm: "89.5".to_owned(), ..Quality::default() }),
            ..training()
        });
        assert_eq!(words(&ended), [Some("42%".to_owned()), None, Some("2.10x".to_owned())]);
        assert_eq!((ended.stage.as_str(), ended.quality.as_deref()), ("Succeeded", Some("89.5%")));
        let [metric, cllm] = ["Perplexity", "1.150"].map(str::to_owned);
        let without_references = Quality { metric, cllm, ..Quality::default() };
        let ended = summary(&CllmTrainingStatus { quality: Some(without_references), ..training() });
        assert_eq!(ended.quality.as_deref(), Some("perplexity 1.150"));
        assert_eq!(summary(&CllmTrainingStatus::default()).stage, "Pending");
    }

    #[test]
    fn durations_are_coarser_the_longer_they_are() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (601, "10m"),
            (10_799, "179m"),
            (10_860, "3h1m"),
            (30_000, "8h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
