//! `CllmTraining`: a target model and data in, a measured consistency language model out.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::pod::PodOptions;
use crate::rules;
use crate::training_stages::{Adaptation, Evaluation, TrainingOptions, TrajectoryOptions};
use crate::training_status::CllmTrainingStatus;

/// What is trained, from what, how, and what the result must reach.
///
/// Immutable but for `suspend`, `trajectories.parallelism` and `ttlSecondsAfterFinished`: a name stands for one result.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cllm.dev",
    version = "v1alpha1",
    kind = "CllmTraining",
    plural = "cllmtrainings",
    shortname = "cllmt",
    category = "cllm-all",
    namespaced,
    status = "CllmTrainingStatus",
    derive = "PartialEq",
    doc = "Trains a consistency language model from a target model and data, and measures the result.",
    validation = rules::name(),
    printcolumn(
        name = "Stage",
        type_ = "string",
        json_path = ".status.summary.stage",
        description = "What happens now."
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.summary.progress",
        description = "How far the stage is."
    ),
    printcolumn(
        name = "ETA",
        type_ = "string",
        json_path = ".status.summary.eta",
        description = "Until the end of the stage."
    ),
    printcolumn(
        name = "Speedup",
        type_ = "string",
        json_path = ".status.summary.speedup",
        description = "Decode tokens per second over the target decoded autoregressively."
    ),
    printcolumn(
        name = "Quality",
        type_ = "string",
        json_path = ".status.summary.quality",
        description = "Correct answers, by spec.evaluation.metric, or the perplexity of those of the target."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Output",
        type_ = "string",
        json_path = ".status.output.uri",
        priority = 1,
        description = "Where the result is."
    )
)]
#[x_kube(
    validation = rules::immutable("model"),
    validation = rules::immutable("dataset"),
    validation = rules::immutable("adaptation"),
    validation = rules::immutable("training"),
    validation = rules::immutable("evaluation"),
    validation = rules::immutable("output"),
    validation = rules::immutable("workspace"),
    validation = rules::immutable("activeDeadlineSeconds"),
    validation = rules::immutable("backoffLimit"),
    validation = rules::immutable("image"),
    validation = rules::immutable("imagePullPolicy"),
    validation = rules::immutable("imagePullSecrets"),
    validation = rules::immutable("resources"),
    validation = rules::immutable("nodeSelector"),
    validation = rules::immutable("tolerations"),
    validation = rules::immutable("affinity"),
    validation = rules::immutable("topologySpreadConstraints"),
    validation = rules::immutable("schedulerName"),
    validation = rules::immutable("podSecurityContext"),
    validation = rules::immutable("env"),
    validation = rules::immutable("extraArgs"),
    validation = rules::immutable("runtimeClassName"),
    validation = rules::immutable("priorityClassName"),
    validation = rules::immutable("serviceAccountName"),
    validation = rules::immutable("podLabels"),
    validation = rules::immutable("podAnnotations"),
    validation = rules::shared_workspace()
)]
#[serde(rename_all = "camelCase")]
pub struct CllmTrainingSpec {
    /// The target model.
    pub model: TargetModel,

    /// What is learnt from and measured on.
    pub dataset: Dataset,

    /// Supervised fine-tuning of the target before everything else; absent: the target is taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptation: Option<Adaptation>,

    /// How Jacobi trajectories of the target are collected.
    #[serde(default)]
    pub trajectories: TrajectoryOptions,

    /// How the consistency model is trained.
    #[serde(default)]
    pub training: TrainingOptions,

    /// How the result is measured, and what it must reach.
    #[serde(default)]
    pub evaluation: Evaluation,

    /// Where the result is written.
    pub output: OutputTarget,

    /// The volume between the stages; absent: a claim of 10Gi is made and deleted with the training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,

    /// Holds the training: no stage is started, and the running one is stopped after a checkpoint.
    #[serde(default)]
    pub suspend: bool,

    /// The most seconds that one stage may take, all its attempts together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub active_deadline_seconds: Option<u32>,

    /// How often the Pod of a stage is retried after a failure; where several run at once, all of them together so many times as often.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: u32,

    /// The seconds after the end at which the Jobs, with their Pods and logs, and the claim that was made between the stages are deleted;
    /// absent: with the training. The training and its output stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<u32>,

    /// Where and how the Pods of all stages run.
    #[serde(flatten)]
    pub pod: PodOptions,
}

/// The target model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::access("self.uri.matches('^(hf|s3|oci)://')", "a model that is downloaded (hf://, s3://, oci://)"))]
#[serde(rename_all = "camelCase")]
pub struct TargetModel {
    /// A checkpoint of config.json, tokenizer.json and safetensors; from a hub, S3 or a registry it is downloaded into the workspace once, and stays the same for all stages.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::model_uri())]
    pub uri: String,

    /// How the place of the model is reached.
    #[serde(flatten)]
    pub access: Access,
}

/// What is learnt from and measured on: JSONL (also .gz or .zst) or Parquet, with prompts and completions, or with messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::access(
    "self.uri.startsWith('s3://') || self.testUri.startsWith('s3://') || (has(self.validationUri) && self.validationUri.startsWith('s3://'))",
    "data in S3"
))]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// The training examples.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::data_uri())]
    pub uri: String,

    /// Examples for choosing the best checkpoint; none of them is trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::data_uri())]
    pub validation_uri: Option<String>,

    /// Held-out examples for the report and the gates; none of them is trained or chosen on.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::data_uri())]
    pub test_uri: String,

    /// The most training examples from which trajectories are collected; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_examples: Option<u32>,

    /// What the fields of a record are called.
    #[serde(default, skip_serializing_if = "RecordFields::is_empty")]
    pub fields: RecordFields,

    /// Records that may be unreadable: they are left out, counted and named in the log. With more of them the stage fails at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub max_bad_records: Option<u32>,

    /// How the place of the data is reached.
    #[serde(flatten)]
    pub access: Access,
}

/// What the fields of a record are called, where they are not `prompt` and `completion`, or `messages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordFields {
    /// The field with the prompt; absent: `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub prompt: Option<String>,

    /// The field with the completion; absent: `completion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub completion: Option<String>,

    /// The field with the messages of a chat, for records without a prompt; absent: `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub messages: Option<String>,
}

impl RecordFields {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the result is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::access("self.uri.startsWith('s3://')", "an output in S3"))]
#[serde(rename_all = "camelCase")]
pub struct OutputTarget {
    /// A folder; the checkpoint goes to a new folder in it, named by its digest, and is never overwritten.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::output_uri())]
    pub uri: String,

    /// How the place of the output is reached.
    #[serde(flatten)]
    pub access: Access,
}

/// The volume between the stages: an existing claim, or a new one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::one_claim("workspace"))]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// An existing PersistentVolumeClaim of this namespace, used by this training alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: Option<String>,

    /// The StorageClass of a new claim; absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,

    /// The size of a new claim; absent: 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,

    /// The access modes of a new claim; absent: ReadWriteOnce, which holds all shards and workers on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Option<Vec<AccessMode>>,
}

/// How many nodes may mount a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// One node.
    ReadWriteOnce,
    /// One Pod.
    ReadWriteOncePod,
    /// Any number of nodes.
    ReadWriteMany,
}

impl AccessMode {
    /// As PersistentVolumeClaim spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

fn default_backoff_limit() -> u32 {
    6
}
