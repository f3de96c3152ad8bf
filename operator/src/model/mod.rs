//! `CllmModel`: from a resource to its objects and to its status. Pure: nothing here holds a client.

mod autoscaler;
mod deployment;
mod disruption_budget;
mod network_policy;
mod render;
mod resolve;
mod service;
mod status;
mod validate;

use cllm_crds::status_page::ServerStatus;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;

pub use render::render;
pub use resolve::{Resolution, ResolvedModel, resolve};
pub use status::{refused, status};
pub use validate::{ModelReference, ValidModel, ValidationError, validate};

/// What an executor saw of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The replicas, by whatever executor runs them.
    pub deployment: Option<Deployment>,
    /// What sets their number, if the spec asks for it.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// The `/status` pages of the replicas that answered.
    pub pages: Vec<ServerStatus>,
}
