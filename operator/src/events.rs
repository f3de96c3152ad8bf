//! Which changes of a status a person would want to be told of. Pure: what is told is what changed, so nothing is told twice.

use cllm_crds::conditions::{reasons, types};
use cllm_crds::{CllmModelStatus, CllmTrainingStatus, TrainingStage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::conditions::find;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// It needs attention.
    pub is_warning: bool,
    /// One word.
    pub reason: String,
    /// What the operator did or looked at, one word.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

/// A condition whose changes are told.
struct Watched {
    type_: &'static str,
    status: &'static str,
    /// Only this reason; absent: any.
    reason: Option<&'static str>,
    is_warning: bool,
}

const fn watched(type_: &'static str, status: &'static str, reason: Option<&'static str>, is_warning: bool) -> Watched {
    Watched { type_, status, reason, is_warning }
}

const WATCHED: [Watched; 15] = [
    watched(types::DEGRADED, "True", None, true),
    watched(types::STALLED, "True", None, true),
    watched(types::FAILED, "True", None, true),
    watched(types::STORAGE_SHARED, "False", None, true),
    watched(types::SCALING_ACTIVE, "False", Some(reasons::ADAPTER_DISABLED), true),
    watched(types::SCALING_ACTIVE, "False", Some(reasons::FOREIGN_ADAPTER), true),
    watched(types::COMPLETE, "True", None, false),
    watched(types::MODEL_LOADED, "True", None, false),
    watched(types::TRAJECTORIES_COLLECTED, "True", None, false),
    watched(types::TRAINED, "True", None, false),
    watched(types::SUSPENDED, "True", None, false),
    watched(types::SPEEDUP_VERIFIED, "True", Some(reasons::GATE_PASSED), false),
    watched(types::SPEEDUP_VERIFIED, "False", Some(reasons::GATE_FAILED), true),
    watched(types::QUALITY_VERIFIED, "True", Some(reasons::GATE_PASSED), false),
    watched(types::QUALITY_VERIFIED, "False", Some(reasons::GATE_FAILED), true),
];

/// Between two statuses of a model.
pub fn of_model(previous: &CllmModelStatus, next: &CllmModelStatus) -> Vec<Notice> {
    let mut notices = of_conditions(&previous.conditions, &next.conditions);
    let digest = |status: &CllmModelStatus| status.model.as_ref().and_then(|model| model.digest.clone());
    if let (Some(old), Some(new)) = (digest(previous), digest(next))
        && old != new
    {
        let note = format!("{new} is served now instead of {old}.");
        notices.push(Notice { is_warning: false, reason: "Promoted".to_owned(), action: "Promote", note });
    }
    notices.extend(of_downtime(previous, next));
    notices
}

/// What it cost, when it is over: that it lasts is what the conditions say.
fn of_downtime(previous: &CllmModelStatus, next: &CllmModelStatus) -> Option<Notice> {
    let last = next.last_downtime.as_ref().filter(|last| previous.last_downtime.as_ref() != Some(*last))?;
    let cause = if last.reason == "Rollout" { "while the replicas were replaced" } else { "because all were lost" };
    let note = format!("No replica answered for {} s, {cause}.", last.seconds?);
    Some(Notice { is_warning: last.reason != "Rollout", reason: "DowntimeEnded".to_owned(), action: "Observe", note })
}

/// Between two statuses of a training.
pub fn of_training(previous: &CllmTrainingStatus, next: &CllmTrainingStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let Some(stage) = next.stage.filter(|stage| Some(*stage) != previous.stage && is_work(*stage)) {
        let note = format!("{stage:?} has started.");
        notices.push(Notice { is_warning: false, reason: "StageStarted".to_owned(), action: "Start", note });
    }
    notices.extend(of_conditions(&previous.conditions, &next.conditions));
    notices
}

fn is_work(stage: TrainingStage) -> bool {
    match stage {
        TrainingStage::Adapting | TrainingStage::Collecting | TrainingStage::Training | TrainingStage::Evaluating => {
            true
        }
        TrainingStage::Pending | TrainingStage::Queued | TrainingStage::Succeeded | TrainingStage::Failed => false,
    }
}

fn of_conditions(previous: &[Condition], next: &[Condition]) -> Vec<Notice> {
    let has_changed = |condition: &Condition| {
        find(previous, &condition.type_)
            .is_none_or(|old| (&old.status, &old.reason) != (&condition.status, &condition.reason))
    };
    // A training that failed is stalled too: once is enough.
    let is_told = |condition: &Condition| {
        condition.type_ != types::STALLED || find(next, types::FAILED).is_none_or(|failed| failed.status != "True")
    };
    let told = |condition: &Condition| {
        let is = |watched: &&Watched| {
            watched.type_ == condition.type_
                && watched.status == condition.status
                && watched.reason.is_none_or(|reason| reason == condition.reason)
        };
        let watched = WATCHED.iter().find(is)?;
        Some(Notice {
            is_warning: watched.is_warning,
            reason: condition.reason.clone(),
            action: watched.type_,
            note: condition.message.clone(),
        })
    };
    next.iter().filter(|condition| has_changed(condition) && is_told(condition)).filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Conditions;
    use k8s_openapi::jiff::Timestamp;

    fn conditions(list: &[(&str, bool, &str)]) -> Vec<Condition> {
        let mut conditions = Conditions::from_previous(&[], None, Timestamp::UNIX_EPOCH);
        for (type_, status, reason) in list {
            conditions.set(type_, *status, reason, format!("{reason}."));
        }
        conditions.into_list()
    }

    fn words(notices: &[Notice]) -> Vec<(bool, &str)> {
        notices.iter().map(|notice| (notice.is_warning, notice.reason.as_str())).collect()
    }

    #[test]
    fn what_changed_is_told_once() {
        let failing = conditions(&[("Degraded", true, "ImagePullFailed"), ("Ready", false, "Progressing")]);
        assert_eq!(words(&of_conditions(&[], &failing)), [(true, "ImagePullFailed")]);
        assert!(of_conditions(&failing, &failing).is_empty());
        let worse = conditions(&[("Degraded", true, "NodeLost")]);
        assert_eq!(words(&of_conditions(&failing, &worse)), [(true, "NodeLost")]);
        assert!(of_conditions(&worse, &conditions(&[("Degraded", false, "AsDeclared")])).is_empty());
    }

    #[test]
    fn stages_gates_and_the_end_of_a_training_are_told() {
        let status = |stage, list| CllmTrainingStatus {
            stage: Some(stage),
            conditions: conditions(list),
            ..CllmTrainingStatus::default()
        };
        let started = status(TrainingStage::Collecting, &[("SpeedupVerified", false, "NotEvaluated")]);
        assert_eq!(words(&of_training(&CllmTrainingStatus::default(), &started)), [(false, "StageStarted")]);
        let missed = status(
            TrainingStage::Failed,
            &[
                ("SpeedupVerified", false, "GateFailed"),
                ("QualityVerified", true, "NoGate"),
                ("Failed", true, "GateFailed"),
                ("Stalled", true, "GateFailed"),
            ],
        );
        assert_eq!(words(&of_training(&started, &missed)), [(true, "GateFailed"), (true, "GateFailed")]);
        let refused =
            status(TrainingStage::Collecting, &[("Stalled", true, "InvalidSpec"), ("Failed", false, "Running")]);
        assert_eq!(words(&of_training(&started, &refused)), [(true, "InvalidSpec")]);
    }
}
