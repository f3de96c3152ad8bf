//! `CllmModel`: a checkpoint served over the OpenAI API by replicas that decode by Jacobi iteration.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::model_status::CllmModelStatus;
use crate::pod::PodOptions;
use crate::rules;
use crate::serving::{
    Autoscaling, Cache, NetworkPolicyOptions, PodDisruptionBudgetOptions, Rollout, ServerOptions, ServiceOptions,
    default_replicas,
};

/// What is served, and how.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cllm.dev",
    version = "v1alpha1",
    kind = "CllmModel",
    plural = "cllmmodels",
    shortname = "cllm",
    category = "cllm-all",
    namespaced,
    status = "CllmModelStatus",
    derive = "PartialEq",
    doc = "Serves a language model over the OpenAI API, decoding by Jacobi iteration.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = rules::name(),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every replica answers."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "string",
        json_path = ".status.summary.replicas",
        description = "Replicas that answer of those that are wanted."
    ),
    printcolumn(
        name = "Tokens/s",
        type_ = "string",
        json_path = ".status.throughput.tokensPerSecond",
        description = "Generated tokens per second, all replicas together."
    ),
    printcolumn(
        name = "Speedup",
        type_ = "string",
        json_path = ".status.summary.speedup",
        description = "Over the same checkpoint decoded autoregressively, as the replicas measured it at their start."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.url",
        priority = 1,
        description = "Where the OpenAI API answers."
    )
)]
#[x_kube(validation = rules::reachable_target())]
#[serde(rename_all = "camelCase")]
pub struct CllmModelSpec {
    /// The checkpoint.
    pub model: ModelSource,

    /// What computes: cuda asks for one `nvidia.com/gpu`, unless the limits already name an extended resource.
    #[serde(default)]
    pub device: Device,

    /// How tokens are found.
    #[serde(default)]
    pub decoding: Decoding,

    /// Limits of each replica.
    #[serde(default)]
    pub server: ServerOptions,

    /// The number of replicas; with autoscaling it belongs to the autoscaler, so leave it out of the manifest: what runs stays.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: u32,

    /// Makes a HorizontalPodAutoscaler that sets the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// What a replica must reach before it answers by Jacobi decoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,

    /// Where a checkpoint that is downloaded is kept; absent: with each replica, so that each downloads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,

    /// How replicas are replaced.
    #[serde(default)]
    pub rollout: Rollout,

    /// Whether the operator leaves everything as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,

    /// The Service in front of the replicas.
    #[serde(default)]
    pub service: ServiceOptions,

    /// Who may reach the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyOptions>,

    /// How many replicas a drain of nodes may take at once.
    #[serde(default)]
    pub pod_disruption_budget: PodDisruptionBudgetOptions,

    /// Where and how the Pods run.
    #[serde(flatten)]
    pub pod: PodOptions,
}

/// The checkpoint: named directly, or the result of a training.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::rule(
        "has(self.uri) != has(self.trainingRef)",
        "model needs exactly one of uri (a checkpoint) and trainingRef (the result of a CllmTraining): keep one of the two"
    ),
    validation = rules::access(
        "!has(self.uri) || self.uri.matches('^(hf|s3|oci)://')",
        "a checkpoint that is downloaded (hf://, s3://, oci://, or a trainingRef whose output is in S3)"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ModelSource {
    /// A checkpoint of config.json, tokenizer.json and safetensors; from a hub, S3 or a registry it is downloaded, checked and kept in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::model_uri())]
    pub uri: Option<String>,

    /// The CllmTraining of this namespace whose result is served, once its gates passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_ref: Option<TrainingReference>,

    /// The only checkpoint that may be served, by its digest; with trainingRef also the way back to an earlier result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = rules::digest())]
    pub digest: Option<String>,

    /// How the place of the checkpoint is reached.
    #[serde(flatten)]
    pub access: Access,

    /// The `model` of the OpenAI API; absent: the name of this resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::rule(
        "self.matches('^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$')",
        "must contain only letters, digits and ._:/- and start and end with a letter or digit"
    ))]
    pub served_name: Option<String>,
}

/// A training of the same namespace, or the newest of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::rule(
    "has(self.name) != has(self.selector)",
    "trainingRef needs exactly one of name (one training) and selector (the newest of several): keep one of the two"
))]
pub struct TrainingReference {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,

    /// The training that completed last among those with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<TrainingSelector>,
}

/// Selects trainings by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrainingSelector {
    /// Labels that a training must have, all of them.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

/// What a replica must reach before it answers by Jacobi decoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gates {
    /// The least speed-up over the same checkpoint decoded autoregressively, a decimal as a string; absent: only measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub min_speedup: Option<String>,

    /// The prompts to measure with; absent: a few general ones, which say little about a model of one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts_from: Option<PromptsSource>,

    /// What happens when the speed-up is below it.
    #[serde(default)]
    pub on_failure: GateFailure,
}

/// Where prompts come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromptsSource {
    /// A key of a ConfigMap of this namespace.
    pub config_map_ref: PromptsReference,
}

/// Prompts, one a line: plain text, or a JSON object with prompt or messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct PromptsReference {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,

    /// Its key.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-A-Za-z0-9_][-._A-Za-z0-9]*$"))]
    pub key: String,
}

/// What happens when a gate is missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateFailure {
    /// The replica answers all the same, one token a forward.
    #[default]
    FallBackToAutoregressive,
    /// The replica does not answer, and the operator goes back to the last checkpoint that did.
    Block,
    /// The replica answers all the same; the condition SpeedupVerified says what is missing.
    Warn,
}

impl GateFailure {
    /// As the server's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FallBackToAutoregressive => "FallBackToAutoregressive",
            Self::Block => "Block",
            Self::Warn => "Warn",
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processors of the node.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// How tokens are found; both strategies give the same tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decoding {
    /// Blocks of tokens at once, or one token at a time.
    #[serde(default)]
    pub strategy: Strategy,

    /// Most tokens of a Jacobi block.
    #[serde(default = "default_max_block_size")]
    #[schemars(range(min = 1, max = 256))]
    pub max_block_size: u32,

    /// Give each block as many tokens as pay on the machine and for the text, at most maxBlockSize and 16; when false, always maxBlockSize.
    #[serde(default = "default_adaptive", skip_serializing_if = "is_adaptive")]
    pub adaptive: bool,
}

/// How tokens are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// Guess a block, correct it until nothing changes.
    #[default]
    Jacobi,
    /// One token a forward.
    Autoregressive,
}

impl Strategy {
    /// As the server's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jacobi => "Jacobi",
            Self::Autoregressive => "Autoregressive",
        }
    }
}

impl Default for Decoding {
    fn default() -> Self {
        Self { strategy: Strategy::default(), max_block_size: default_max_block_size(), adaptive: default_adaptive() }
    }
}

fn default_max_block_size() -> u32 {
    16
}
fn default_adaptive() -> bool {
    true
}
/// Then it is not written, so that the hash of an older spec stays what it was.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_adaptive(adaptive: &bool) -> bool {
    *adaptive
}
