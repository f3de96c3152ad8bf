//! When the Jobs and the workspace of a training that has ended are deleted.

use cllm_crds::{CllmTrainingSpec, CllmTrainingStatus};
use k8s_openapi::jiff::Timestamp;
use std::time::Duration;

/// What becomes of the Jobs and the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// They stay as long as the training.
    Never,
    /// They are deleted after this time.
    In(Duration),
    /// They are deleted now.
    Now,
}

/// By `spec.ttlSecondsAfterFinished`, once the end stands in the status with all that came out.
pub fn expiry(spec: &CllmTrainingSpec, status: &CllmTrainingStatus, now: Timestamp) -> Expiry {
    let (Some(ttl), Some(end)) = (spec.ttl_seconds_after_finished, &status.completion_time) else {
        return Expiry::Never;
    };
    match u64::try_from(end.0.as_second() + i64::from(ttl) - now.as_second()) {
        Ok(left) if left > 0 => Expiry::In(Duration::from_secs(left)),
        Ok(_) | Err(_) => Expiry::Now,
    }
}
