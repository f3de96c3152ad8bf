//! Which Job is to be created now, and what is to be changed on a running one: one stage at a time, and none after the end.

use k8s_openapi::api::batch::v1::Job;

use crate::resources::StagedJob;
use crate::training::outcome::find;
use crate::training::{Observed, StageOutcome, ValidTraining, job, outcome};

/// The Jobs to create now: the first stage that has not ended well, if its Job is missing. Nothing while suspended or after the end.
pub fn due(training: &ValidTraining, observed: &Observed) -> Vec<Job> {
    if training.is_terminal || training.spec.suspend {
        return Vec::new();
    }
    match current(training, observed) {
        Some((staged, StageOutcome::Missing)) => vec![staged.job],
        _ => Vec::new(),
    }
}

/// The Jobs whose `spec.suspend` is to be changed, and to what. Jobs in a queue belong to Kueue and are left alone.
pub fn suspensions(training: &ValidTraining, observed: &Observed) -> Vec<(String, bool)> {
    if training.is_terminal || !training.queue_labels.is_empty() {
        return Vec::new();
    }
    match current(training, observed) {
        Some((staged, StageOutcome::Running { is_suspended })) if is_suspended != training.spec.suspend => {
            vec![(staged.job.metadata.name.unwrap_or_default(), training.spec.suspend)]
        }
        _ => Vec::new(),
    }
}

/// The Jobs whose `spec.parallelism` is to be changed, and to what.
pub fn parallelism_changes(training: &ValidTraining, observed: &Observed) -> Vec<(String, i32)> {
    let Some((staged, StageOutcome::Running { .. })) = current(training, observed) else { return Vec::new() };
    let name = staged.job.metadata.name.unwrap_or_default();
    let parallelism = |job: &Job| job.spec.as_ref().and_then(|spec| spec.parallelism);
    match (staged.job.spec.and_then(|spec| spec.parallelism), find(&observed.jobs, &name).and_then(parallelism)) {
        (Some(wanted), Some(found)) if wanted != found && training.queue_labels.is_empty() => vec![(name, wanted)],
        _ => Vec::new(),
    }
}

/// The first stage that has not ended well, and what became of it; none when all did.
pub(super) fn current(training: &ValidTraining, observed: &Observed) -> Option<(StagedJob, StageOutcome)> {
    job::jobs(training)
        .into_iter()
        .map(|staged| {
            let outcome = outcome(training, &staged, observed);
            (staged, outcome)
        })
        .find(|(_, outcome)| *outcome != StageOutcome::Complete)
}
