//! The stages of a `CllmTraining`, as its spec describes them: adaptation, collection, training, evaluation.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::StagePodOptions;
use crate::rules;
use crate::training_keep::Keep;
use crate::training_method::{LoraOptions, TrainingMethod};

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

    /// Which weights become the adapted target.
    #[serde(default)]
    pub keep: Keep,

    /// Where the Pods of this stage run.
    #[serde(flatten)]
    pub pod: StagePodOptions,
}

/// How Jacobi trajectories of the target are collected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::immutable("shards"),
    validation = rules::immutable("blockSize"),
    validation = rules::immutable("maxNewTokens"),
    validation = rules::immutable("concurrency"),
    validation = rules::immutable("resources"),
    validation = rules::immutable("nodeSelector"),
    validation = rules::immutable("tolerations"),
    validation = rules::immutable("extraArgs")
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

    /// Texts that each thread decodes at the same time; absent: as many as fill its forwards. The result is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: Option<u32>,

    /// Where the Pods of this stage run.
    #[serde(flatten)]
    pub pod: StagePodOptions,
}

/// How the consistency model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = rules::rule(
        "self.consistency == 'Global' || self.states == 'Trajectories'",
        "consistency Local learns from the next state of a trajectory, which made-up states lack: set states to Trajectories, or consistency to Global"
    ),
    validation = rules::rule(
        "!has(self.lora) || self.method == 'LoRA'",
        "lora describes the adapters of method LoRA: set method to LoRA, or remove lora"
    ),
    validation = rules::rule(
        "!has(self.maxPerplexityRise) || self.keep == 'Best'",
        "maxPerplexityRise says which check is the best: set keep to Best, or remove maxPerplexityRise"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TrainingOptions {
    /// What is learnt: all weights, or adapters beside them.
    #[serde(default)]
    pub method: TrainingMethod,

    /// The adapters of method LoRA; absent: rank 32 and alpha 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraOptions>,

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

    /// What teaches a state: the fixed point, or the state after it.
    #[serde(default)]
    pub consistency: Consistency,

    /// Which weights become the result.
    #[serde(default)]
    pub keep: Keep,

    /// Percent by which the perplexity of the target's answers may rise over the target's own on dataset.validationUri, a decimal as a string: of the checks within it the one with the most tokens per forward is the best; absent: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub max_perplexity_rise: Option<String>,

    /// Seed of everything random in all stages.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub seed: u32,

    /// Optimizer steps between two resumable checkpoints.
    #[serde(default = "default_checkpoint_every_steps")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub checkpoint_every_steps: u32,

    /// Computes activations again where gradients need them, instead of keeping them: less memory, about a third more time, the same result.
    #[serde(default)]
    pub gradient_checkpointing: bool,

    /// Pods that train together, with the result of one; all of them use the workspace at once, on several nodes only with ReadWriteMany.
    #[serde(default = "default_workers")]
    #[schemars(range(min = 1, max = 8))]
    pub workers: u32,

    /// Where the Pods of this stage run.
    #[serde(flatten)]
    pub pod: StagePodOptions,
}

/// In which order the states of a trajectory are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoiseSchedule {
    /// From states near the fixed point to states far from it, over and over.
    #[default]
    Progressive,
    /// From states near the fixed point to states far from it, once in the run.
    Linear,
    /// Any state at any time.
    Random,
}

impl NoiseSchedule {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressive => "Progressive",
            Self::Linear => "Linear",
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

/// What teaches a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Consistency {
    /// The fixed point.
    #[default]
    Global,
    /// The state after it in its trajectory.
    Local,
}

impl Consistency {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "Global",
            Self::Local => "Local",
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
    #[x_kube(validation = rules::volume_uri())]
    pub database_uri: Option<String>,

    /// The most prompts measured; fewer than 1000 mislead by points.
    #[serde(default = "default_prompts")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub prompts: u32,

    /// Temperatures at which everything is measured beside greedy decoding, decimals as strings; each takes as long as greedy decoding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 19)))]
    #[x_kube(validation = rules::temperatures())]
    pub temperatures: Vec<String>,

    /// The least decode speed-up over the target decoded autoregressively, a decimal as a string; absent: no gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub min_speedup: Option<String>,

    /// The most points of quality that may be lost against the target, or with metric Perplexity the percent by which it may rise, a decimal as a string; absent: no gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub max_quality_drop: Option<String>,

    /// Where the Pods of this stage run.
    #[serde(flatten)]
    pub pod: StagePodOptions,
}

/// How an answer is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QualityMetric {
    /// The answer is the reference, but for the case of literals.
    #[default]
    ExactMatch,
    /// The answer and the reference return the same rows from the database.
    SqlExecution,
    /// The last number of the answer is that of the reference.
    NumericAnswer,
    /// None of them: how likely the answers of the target are under the trained checkpoint. For data without references.
    Perplexity,
}

impl QualityMetric {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExactMatch => "ExactMatch",
            Self::SqlExecution => "SqlExecution",
            Self::NumericAnswer => "NumericAnswer",
            Self::Perplexity => "Perplexity",
        }
    }
}

impl Default for TrajectoryOptions {
    fn default() -> Self {
        Self {
            shards: default_shards(),
            parallelism: default_parallelism(),
            block_size: default_block_size(),
            max_new_tokens: default_max_new_tokens(),
            concurrency: None,
            pod: StagePodOptions::default(),
        }
    }
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            method: TrainingMethod::default(),
            lora: None,
            steps: default_steps(),
            batch_size: default_batch_size(),
            learning_rate: default_learning_rate(),
            autoregressive_weight: default_autoregressive_weight(),
            noise_schedule: NoiseSchedule::default(),
            states: States::default(),
            consistency: Consistency::default(),
            keep: Keep::default(),
            max_perplexity_rise: None,
            seed: 0,
            checkpoint_every_steps: default_checkpoint_every_steps(),
            gradient_checkpointing: false,
            workers: default_workers(),
            pod: StagePodOptions::default(),
        }
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            metric: QualityMetric::default(),
            database_uri: None,
            prompts: default_prompts(),
            temperatures: Vec::new(),
            min_speedup: None,
            max_quality_drop: None,
            pod: StagePodOptions::default(),
        }
    }
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
fn default_workers() -> u32 {
    1
}
fn default_prompts() -> u32 {
    2000
}
