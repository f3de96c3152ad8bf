//! What a [`crate::CllmModel`] gives its replicas around the decoding: limits, scaling, cache, roll-out, Service, network and disruption.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;
use crate::training::AccessMode;

/// Limits of each replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerOptions {
    /// The most tokens of prompt and answer together; absent: what the checkpoint was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 10_000_000))]
    pub context_length: Option<u32>,

    /// Requests decoded at once.
    #[serde(default = "default_max_concurrent_requests")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_concurrent_requests: u32,

    /// Requests that may wait; more are refused with status 429.
    #[serde(default = "default_max_queued_requests")]
    #[schemars(range(min = 0, max = 65_535))]
    pub max_queued_requests: u32,

    /// The most generated tokens per second, of all requests of a replica together; absent: as many as the machine can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_tokens_per_second: Option<u32>,

    /// Seconds in which a stopping replica finishes its requests.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: u32,
}

/// Between which bounds, and on which figures, the replicas are scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::rule(
        "self.minReplicas <= self.maxReplicas",
        "autoscaling.minReplicas must not be above autoscaling.maxReplicas: lower the one or raise the other"
    ),
    validation = rules::rule(
        "has(self.targetTokensPerSecond) || has(self.targetUtilization) || has(self.targetQueuedRequests)",
        "autoscaling needs a figure to scale on: set targetTokensPerSecond, targetUtilization, targetQueuedRequests, or several of them"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// The fewest replicas.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 10_000))]
    pub min_replicas: u32,

    /// The most replicas.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: u32,

    /// Generated tokens per second of one replica above which replicas are added; it should be at most nine tenths of what a replica can deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub target_tokens_per_second: Option<u32>,

    /// The same in percent of the capacity that each replica measured of itself; 70 is a good start, and above 90 no load would add a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 90))]
    pub target_utilization: Option<u32>,

    /// Waiting requests of one replica above which replicas are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub target_queued_requests: Option<u32>,

    /// How fast replicas are added and removed, as in autoscaling/v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

/// Where downloaded checkpoints are kept: an existing claim, or a new one. Older checkpoints stay in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::one_claim("cache"),
    validation = rules::rule(
        "has(self.claimName) || has(self.size)",
        "cache needs claimName (an existing claim), or size (of a new one, large enough for the checkpoint and its successor)"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// An existing PersistentVolumeClaim of this namespace; its file system must support flock, as local ones and NFSv4 do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: Option<String>,

    /// The StorageClass of a new claim; absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,

    /// The size of a new claim, which is deleted with this resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,

    /// The access modes of a new claim; absent: ReadWriteOnce, which holds all replicas on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Option<Vec<AccessMode>>,
}

/// How replicas are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Rollout {
    /// New replicas first, or old ones away first.
    #[serde(default)]
    pub strategy: RolloutStrategy,
}

/// How replicas are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    /// InPlace when an extended resource such as a GPU is asked for, or when the cache may be ReadWriteOnce (a new claim without ReadWriteMany, or an existing claim), else Surge.
    #[default]
    Auto,
    /// One more replica at a time, so that none is missed; it needs room for one more.
    Surge,
    /// One replica fewer at a time; it needs no room, and a single replica is away for a while.
    InPlace,
}

/// The Service in front of the replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ServiceOptions {
    /// Its port.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,

    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// Who may reach the replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyOptions {
    /// Peers that may reach the API, as in NetworkPolicy; empty: everyone in the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ingress_from: Vec<NetworkPolicyPeer>,
}

/// How many replicas a drain of nodes may take at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionBudgetOptions {
    /// A number, or a percentage as a string.
    #[serde(default = "default_max_unavailable")]
    pub max_unavailable: IntOrString,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            context_length: None,
            max_concurrent_requests: default_max_concurrent_requests(),
            max_queued_requests: default_max_queued_requests(),
            max_tokens_per_second: None,
            drain_seconds: default_drain_seconds(),
        }
    }
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { port: default_service_port(), annotations: BTreeMap::new() }
    }
}

impl Default for PodDisruptionBudgetOptions {
    fn default() -> Self {
        Self { max_unavailable: default_max_unavailable() }
    }
}

/// One, of what is scaled and of what scales it at least.
pub(crate) fn default_replicas() -> u32 {
    1
}
fn default_max_concurrent_requests() -> u32 {
    8
}
fn default_max_queued_requests() -> u32 {
    64
}
fn default_drain_seconds() -> u32 {
    60
}
fn default_service_port() -> u16 {
    80
}
fn default_max_unavailable() -> IntOrString {
    IntOrString::Int(1)
}
