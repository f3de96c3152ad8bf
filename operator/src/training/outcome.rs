//! What became of a stage, from the status of its Job or, when the Job is gone, from what the training's status remembers of it.

use cllm_crds::JobSummary;
use k8s_openapi::api::batch::v1::{Job, JobCondition};

use crate::resources::StagedJob;
use crate::training::{Observed, ValidTraining};

/// What became of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageOutcome {
    /// Its Job does not exist, and it has not ended well before.
    Missing,
    /// Its Job exists and has not ended.
    Running {
        /// It waits in a queue, or is suspended.
        is_suspended: bool,
    },
    /// It ended well.
    Complete,
    /// It will not be tried again.
    Failed {
        /// The Job's reason, like `BackoffLimitExceeded`.
        reason: String,
        /// The Job's message.
        message: String,
    },
}

/// What became of the stage of that Job.
pub fn outcome(training: &ValidTraining, staged: &StagedJob, observed: &Observed) -> StageOutcome {
    let name = staged.job.metadata.name.as_deref().unwrap_or_default();
    match find(&observed.jobs, name) {
        Some(job) => of_job(job),
        None if is_recorded_as_complete(&training.recorded_jobs, staged, name) => StageOutcome::Complete,
        None => StageOutcome::Missing,
    }
}

/// The Job of that name.
pub(super) fn find<'a>(jobs: &'a [Job], name: &str) -> Option<&'a Job> {
    jobs.iter().find(|job| job.metadata.name.as_deref() == Some(name))
}

/// What became of a Job that exists.
pub(super) fn of_job(job: &Job) -> StageOutcome {
    let holds = |type_: &str| {
        let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if let Some(JobCondition { reason, message, .. }) = holds("Failed") {
        return StageOutcome::Failed {
            reason: reason.clone().unwrap_or_default(),
            message: message.clone().unwrap_or_default(),
        };
    }
    if holds("Complete").is_some() {
        return StageOutcome::Complete;
    }
    StageOutcome::Running { is_suspended: job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default() }
}

fn is_recorded_as_complete(recorded: &[JobSummary], staged: &StagedJob, name: &str) -> bool {
    let needed = staged.job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(1);
    recorded.iter().any(|summary| summary.name == name && summary.succeeded >= needed)
}
