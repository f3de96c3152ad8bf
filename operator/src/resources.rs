//! The objects that a resource stands for, as a type: prepared by `render`, applied by the executor.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde_json::Value;
use std::marker::PhantomData;

use cllm_crds::status_page::JobStage;

/// As `render` made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared;

/// As the cluster answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied;

/// The objects of a CllmTraining.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingResources<State> {
    /// The claim between the stages, unless the spec names one.
    pub workspace: Option<PersistentVolumeClaim>,
    /// What the Pods may be reached by.
    pub network_policy: NetworkPolicy,
    /// By what the processes of a training find each other, if there are several.
    pub service: Option<Service>,
    /// The Jobs of all stages, in order. Each is created when it is due, never applied.
    pub jobs: Vec<StagedJob>,
    pub(crate) state: PhantomData<State>,
}

/// The Job of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StagedJob {
    /// The stage.
    pub stage: JobStage,
    /// Its Job.
    pub job: Job,
}

/// The objects of a CllmModel.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelResources<State> {
    /// The claim for downloads, if the spec asks for a new one.
    pub cache: Option<PersistentVolumeClaim>,
    /// What the Pods may be reached by.
    pub network_policy: NetworkPolicy,
    /// The replicas.
    pub deployment: Deployment,
    /// The stable address in front of them.
    pub service: Service,
    /// How many a drain of nodes may take at once.
    pub disruption_budget: PodDisruptionBudget,
    /// What sets their number, if the spec asks for it.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    pub(crate) state: PhantomData<State>,
}

impl<State> TrainingResources<State> {
    /// Every object as JSON, in the order in which it is applied.
    pub fn objects(&self) -> Vec<Value> {
        let Self { workspace, network_policy, service, jobs, state: PhantomData } = self;
        let mut objects = Vec::from_iter(workspace.as_ref().map(object));
        objects.push(object(network_policy));
        objects.extend(service.as_ref().map(object));
        objects.extend(jobs.iter().map(|staged| object(&staged.job)));
        objects
    }
}

impl<State> ModelResources<State> {
    /// Every object as JSON, in the order in which it is applied.
    pub fn objects(&self) -> Vec<Value> {
        let Self { cache, network_policy, deployment, service, disruption_budget, autoscaler, state: PhantomData } =
            self;
        let mut objects = Vec::from_iter(cache.as_ref().map(object));
        objects.extend([object(network_policy), object(deployment), object(service), object(disruption_budget)]);
        objects.extend(autoscaler.as_ref().map(object));
        objects
    }
}

/// A typed object as JSON, with `apiVersion` and `kind`.
pub(crate) fn object<K: Serialize>(typed: &K) -> Value {
    // A Kubernetes type is a tree of maps with string keys, which always has a JSON form.
    serde_json::to_value(typed).unwrap_or_default()
}
