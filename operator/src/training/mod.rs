//! `CllmTraining`: from a resource to its objects, to the Job that is due, to its status. Pure: nothing here holds a client.

mod division;
mod due;
mod expiry;
mod gates;
mod job;
mod network_policy;
mod outcome;
mod progress;
mod render;
mod retries;
mod status;
mod summary;
mod trajectories;
mod validate;
mod workers;
mod workspace;

use std::collections::BTreeMap;

use cllm_crds::status_page::{TerminationMessage, TrainerStatus};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::failure::PodFailure;

pub(crate) use job::stage_of;
pub(crate) use network_policy::tcp;
pub(crate) use retries::EXIT_INTERRUPTED;
pub(crate) use validate::is_name;

pub use due::{changes, due};
pub use expiry::{Expiry, expiry};
pub use job::{replicated, report};
pub use outcome::{StageOutcome, outcome};
pub use progress::together;
pub use render::render;
pub use status::{delayed, refused, status};
pub use summary::summary;
pub use validate::{ValidTraining, ValidationError, WorkspaceClaim, validate};

/// What an executor saw of a training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The Jobs that exist, by whatever executor made them.
    pub jobs: Vec<Job>,
    /// The last words of the Pods that ended, by the name of their Job.
    pub messages: BTreeMap<String, Vec<TerminationMessage>>,
    /// The `/status` page of a running Pod, if it answered.
    pub page: Option<TrainerStatus>,
    /// What goes wrong with the Pods, and with making them.
    pub failures: Vec<PodFailure>,
    /// The claims that Pods share, those that exist.
    pub claims: Vec<PersistentVolumeClaim>,
}
