//! `CllmModel`: from a resource to its objects and to its status. Pure: nothing here holds a client.

mod autoscaler;
mod cache;
mod deployment;
mod disruption_budget;
mod downtime;
mod network_policy;
mod promotion;
mod render;
mod replicas;
mod resolve;
mod scaling;
mod service;
mod speedup;
mod status;
mod validate;

use cllm_crds::status_page::ServerStatus;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::failure::PodFailure;

pub(crate) use deployment::loopback_pod;
pub use deployment::{replicated, template_hash};
pub use promotion::{Decision, Memory, Replica, decide, serving};
pub use render::render;
pub use resolve::{Resolution, ResolvedModel, TrainingQuery, resolve};
pub use scaling::MetricsApi;
pub use status::{delayed, refused, status};
pub use validate::{ModelReference, ValidModel, ValidationError, validate};

/// What an executor saw of a model, after it acted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The replicas, by whatever executor runs them.
    pub deployment: Option<Deployment>,
    /// What sets their number, if the spec asks for it.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Who serves that its metrics.
    pub metrics_api: MetricsApi,
    /// The replicas' own words, from before it acted.
    pub replicas: Vec<Replica>,
    /// What goes wrong with the Pods of the replicas.
    pub failures: Vec<PodFailure>,
    /// The claims that the replicas use, those that exist.
    pub claims: Vec<PersistentVolumeClaim>,
}

impl Observed {
    /// The `/status` pages of the replicas that answered.
    fn pages(&self) -> impl Iterator<Item = &ServerStatus> {
        self.replicas.iter().filter_map(|replica| replica.page.as_ref())
    }
}
