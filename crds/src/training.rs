//! `CllmTraining`: a target model and data in, a measured consistency language model out.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::PodOptions;
use crate::report::{Quality, Speedup};
use crate::rules;
use crate::status_page::{JobStage, Output, Progress, Trajectories};

/// What is trained, from what, how, and what the result must reach.
///
/// Immutable but for `suspend` and `trajectories.parallelism`: a name stands for one result.
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
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage", description = "What happens now."),
    printcolumn(
        name = "Progress",
        type_ = "integer",
        json_path = ".status.progress.progressPercentage",
        description = "Percent of the stage."
    ),
    printcolumn(
        name = "ETA",
        type_ = "integer",
        json_path = ".status.progress.estimatedRemainingSeconds",
        description = "Seconds to the end of the stage."
    ),
    printcolumn(
        name = "Speedup",
        type_ = "string",
        json_path = ".status.speedup.overTarget",
        description = "Decode tokens per second over the target decoded autoregressively."
    ),
    printcolumn(
        name = "Quality",
        type_ = "string",
        json_path = ".status.quality.cllm",
        description = "Percent, by spec.evaluation.metric."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
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
    validation = rules::immutable("runtimeClassName"),
    validation = rules::immutable("priorityClassName"),
    validation = rules::immutable("serviceAccountName"),
    validation = rules::immutable("podLabels"),
    validation = rules::immutable("podAnnotations")
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

    /// How often the Pod of a stage (in collection: of a shard) is retried after a failure.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: u32,

    /// Where and how the Pods of all stages run.
    #[serde(flatten)]
    pub pod: PodOptions,
}

/// The target model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetModel {
    /// A checkpoint folder: config.json, tokenizer.json and safetensors.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::input_uri())]
    pub uri: String,
}

/// What is learnt from and measured on: JSONL files of `{"prompt", "completion"}` or `{"messages"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// The training examples.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::input_uri())]
    pub uri: String,

    /// Examples for choosing the best checkpoint; none of them is trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::input_uri())]
    pub validation_uri: Option<String>,

    /// Held-out examples for the report and the gates; none of them is trained or chosen on.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::input_uri())]
    pub test_uri: String,

    /// The most training examples from which trajectories are collected; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_examples: Option<u32>,
}

/// Supervised fine-tuning of the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::rule(
    "has(self.epochs) != has(self.steps)",
    "adaptation needs exactly one of epochs and steps: keep one of the two"
))]
#[serde(rename_all = "camelCase")]
pub struct Adaptation {
    /// Passes over the training examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub epochs: Option<u32>,

    /// Optimizer steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub steps: Option<u32>,

    /// Examples of an optimizer step.
    #[serde(default = "default_adaptation_batch_size")]
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: u32,

    /// The highest learning rate, a decimal as a string.
    #[serde(default = "default_learning_rate")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub learning_rate: String,

    /// Requests and limits of this stage, instead of `spec.resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// How Jacobi trajectories of the target are collected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::immutable("shards"),
    validation = rules::immutable("blockSize"),
    validation = rules::immutable("maxNewTokens"),
    validation = rules::immutable("resources")
)]
#[serde(rename_all = "camelCase")]
pub struct TrajectoryOptions {
    /// Into how many parts the examples are split, one Pod each.
    #[serde(default = "default_shards")]
    #[schemars(range(min = 1, max = 10_000))]
    pub shards: u32,

    /// How many shards run at once; it can be changed while they run.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 1000))]
    pub parallelism: u32,

    /// Tokens of a Jacobi block.
    #[serde(default = "default_block_size")]
    #[schemars(range(min = 2, max = 256))]
    pub block_size: u32,

    /// The most tokens generated for one prompt.
    #[serde(default = "default_max_new_tokens")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_new_tokens: u32,

    /// Requests and limits of this stage, instead of `spec.resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// How the consistency model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrainingOptions {
    /// Optimizer steps.
    #[serde(default = "default_steps")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub steps: u32,

    /// Examples of an optimizer step.
    #[serde(default = "default_batch_size")]
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: u32,

    /// The highest learning rate, a decimal as a string.
    #[serde(default = "default_learning_rate")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub learning_rate: String,

    /// Weight of the autoregressive loss beside the consistency loss, a decimal as a string: higher keeps more quality and gains less speed.
    #[serde(default = "default_autoregressive_weight")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub autoregressive_weight: String,

    /// In which order the states of a trajectory are learnt.
    #[serde(default)]
    pub noise_schedule: NoiseSchedule,

    /// Which states are learnt from.
    #[serde(default)]
    pub states: States,

    /// Seed of everything random in all stages.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub seed: u32,

    /// Optimizer steps between two resumable checkpoints.
    #[serde(default = "default_checkpoint_every_steps")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub checkpoint_every_steps: u32,

    /// Requests and limits of this stage, instead of `spec.resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// In which order the states of a trajectory are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoiseSchedule {
    /// From states near the fixed point to states far from it, over and over.
    #[default]
    Progressive,
    /// Any state at any time.
    Random,
}

impl NoiseSchedule {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressive => "Progressive",
            Self::Random => "Random",
        }
    }
}

/// Which states are learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum States {
    /// Those of the collected Jacobi trajectories.
    #[default]
    Trajectories,
    /// Corrupted fixed points.
    Noise,
    /// The two in turns.
    Mixed,
}

impl States {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trajectories => "Trajectories",
            Self::Noise => "Noise",
            Self::Mixed => "Mixed",
        }
    }
}

/// How the result is measured, and what it must reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::rule(
    "(self.metric == 'SqlExecution') == has(self.databaseUri)",
    "databaseUri goes with metric SqlExecution: set both (the SQLite database that the answers are executed on), or neither"
))]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// How an answer is judged.
    #[serde(default)]
    pub metric: QualityMetric,

    /// The SQLite database file that answers are executed on, for SqlExecution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::input_uri())]
    pub database_uri: Option<String>,

    /// The most prompts measured; fewer than 1000 mislead by points.
    #[serde(default = "default_prompts")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub prompts: u32,

    /// The least decode speed-up over the target decoded autoregressively, a decimal as a string; absent: no gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub min_speedup: Option<String>,

    /// The most points of quality that may be lost against the target, a decimal as a string; absent: no gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub max_quality_drop: Option<String>,

    /// Requests and limits of this stage, instead of `spec.resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// How an answer is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QualityMetric {
    /// The answer is the reference, but for the case of literals.
    #[default]
    ExactMatch,
    /// The answer and the reference return the same rows from the database.
    SqlExecution,
}

impl QualityMetric {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExactMatch => "ExactMatch",
            Self::SqlExecution => "SqlExecution",
        }
    }
}

/// Where the result is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputTarget {
    /// A folder; the checkpoint goes to a new folder in it, named by its digest, and is never overwritten.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::output_uri())]
    pub uri: String,
}

/// The volume between the stages: an existing claim, or a new one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::rule(
        "!has(self.claimName) || !(has(self.storageClassName) || has(self.size) || has(self.accessModes))",
        "workspace is either an existing claim (claimName) or a new one (storageClassName, size, accessModes): remove one of the two"
    )
)]
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

    /// The access modes of a new claim; absent: ReadWriteOnce, which holds all shards on one node.
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

/// What happens and what came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CllmTrainingStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// When the first stage was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the training completed or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// The image of all stages, resolved once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// What happens now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<TrainingStage>,

    /// How far the stage is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,

    /// What was collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trajectories: Option<Trajectories>,

    /// How much faster the result is, and than what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<Speedup>,

    /// How good the result is, and how good the target was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,

    /// The checkpoint that came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,

    /// The Jobs of the stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub jobs: Vec<JobSummary>,

    /// What is true now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What a training does now, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrainingStage {
    /// Nothing has started.
    Pending,
    /// The Job waits in a queue.
    Queued,
    /// The target is fine-tuned.
    Adapting,
    /// Trajectories are collected.
    Collecting,
    /// The consistency model is trained.
    Training,
    /// The result is measured.
    Evaluating,
    /// Every stage ended well and every gate passed.
    Succeeded,
    /// There is no result that may be served.
    Failed,
}

impl From<JobStage> for TrainingStage {
    fn from(stage: JobStage) -> Self {
        match stage {
            JobStage::Adapting => Self::Adapting,
            JobStage::Collecting => Self::Collecting,
            JobStage::Training => Self::Training,
            JobStage::Evaluating => Self::Evaluating,
        }
    }
}

/// A Job of a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSummary {
    /// The name of the Job.
    pub name: String,
    /// The stage that it runs.
    pub stage: JobStage,
    /// Pods that run or wait for a node.
    pub active: i32,
    /// Pods that ended well (in collection: shards).
    pub succeeded: i32,
    /// Pods that failed.
    pub failed: i32,
}

impl Default for TrajectoryOptions {
    fn default() -> Self {
        Self {
            shards: default_shards(),
            parallelism: default_parallelism(),
            block_size: default_block_size(),
            max_new_tokens: default_max_new_tokens(),
            resources: None,
        }
    }
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            steps: default_steps(),
            batch_size: default_batch_size(),
            learning_rate: default_learning_rate(),
            autoregressive_weight: default_autoregressive_weight(),
            noise_schedule: NoiseSchedule::default(),
            states: States::default(),
            seed: 0,
            checkpoint_every_steps: default_checkpoint_every_steps(),
            resources: None,
        }
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            metric: QualityMetric::default(),
            database_uri: None,
            prompts: default_prompts(),
            min_speedup: None,
            max_quality_drop: None,
            resources: None,
        }
    }
}

fn default_backoff_limit() -> u32 {
    6
}
fn default_adaptation_batch_size() -> u32 {
    32
}
fn default_shards() -> u32 {
    1
}
fn default_parallelism() -> u32 {
    1
}
fn default_block_size() -> u32 {
    16
}
fn default_max_new_tokens() -> u32 {
    256
}
fn default_steps() -> u32 {
    1000
}
fn default_batch_size() -> u32 {
    16
}
fn default_learning_rate() -> String {
    "0.001".to_owned()
}
fn default_autoregressive_weight() -> String {
    "10".to_owned()
}
fn default_checkpoint_every_steps() -> u32 {
    100
}
fn default_prompts() -> u32 {
    2000
}
