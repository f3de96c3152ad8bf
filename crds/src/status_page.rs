//! What a pod says about itself: `GET :9090/status` while it runs, the termination message when it ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model_status::ArtifactProgress;
use crate::report::{Quality, Speedup};

/// A termination message is cut by the kubelet beyond 4 KiB; ours stay well below.
pub const TERMINATION_MESSAGE_LIMIT: usize = 3072;

/// The stages of a training that run in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JobStage {
    /// Supervised fine-tuning of the target.
    Adapting,
    /// Jacobi trajectories of the target.
    Collecting,
    /// Consistency training.
    Training,
    /// Measuring the result.
    Evaluating,
}

/// `/status` of a trainer pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrainerStatus {
    /// What the pod does.
    pub stage: JobStage,
    /// How far it is.
    pub progress: Progress,
}

/// How far a stage is (field names of Kubeflow KEP-2779).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    pub progress_percentage: u32,
    /// Absent until it can be estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<u64>,
    /// Figures of the stage: `loss`, `tokensPerForward`, `tokensPerSecond`, `step` and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// RFC 3339, UTC.
    pub last_updated_time: String,
}

/// A named figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// camelCase.
    pub name: String,
    /// A decimal as a string.
    pub value: String,
}

/// `/status` of a server pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// The `model` of the OpenAI API.
    pub served_name: String,
    /// `sha256:` and 64 hexadecimal digits; empty while loading.
    pub digest: String,
    /// Number of weights; 0 while loading.
    pub parameters: u64,
    /// Loaded, and not draining.
    pub ready: bool,
    /// `Jacobi` or `Autoregressive`.
    pub effective_strategy: String,
    /// Most rows of a forward.
    pub block_size: u32,
    /// Requests being decoded.
    pub requests_running: u32,
    /// Requests waiting for a slot.
    pub requests_waiting: u32,
    /// Generated tokens per second that it can deliver with all slots in use: measured before it answered, corrected in use, at most
    /// `--max-tokens-per-second`. Absent until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_tokens_per_second: Option<f64>,
    /// What it delivers now in percent of that; above 100 where it was underestimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<f64>,
    /// While the checkpoint is downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactProgress>,
    /// Over the last seconds in which something was generated; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<ServerThroughput>,
    /// Processor, threads and instruction set.
    pub hardware: String,
    /// What it measured of itself before it answered; absent while it measures, and where it decodes autoregressively by its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<MeasuredSpeedup>,
    /// What `--min-speedup` said to that; absent without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateVerdict>,
}

/// What a server gains by Jacobi decoding: the same checkpoint, the same prompts in turns, one run, one prompt at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredSpeedup {
    /// Tokens per second after the prefill, over the same autoregressively: a decimal as a string.
    pub over_own_autoregressive: String,
    /// The same with the prefill on both sides.
    pub over_own_autoregressive_end_to_end: String,
    /// Tokens per forward after the prefill; autoregressively it is 1.
    pub tokens_per_forward: String,
    /// Most rows of a forward.
    pub block_size: u32,
    /// Prompts at a time.
    pub concurrency: u32,
    /// Prompts that were decoded.
    pub prompts: u32,
    /// Where they came from: built-in, or the name of a file.
    pub prompts_from: String,
    /// Tokens that were generated, one way.
    pub tokens: u64,
    /// Processor and threads.
    pub hardware: String,
    /// Instruction set of the kernels.
    pub instruction_set: String,
    /// RFC 3339, UTC.
    pub measured_at: String,
}

/// What a gate said to a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateVerdict {
    /// The least speed-up that was asked for, a decimal as a string.
    pub min_speedup: String,
    /// Whether it was reached.
    pub passed: bool,
    /// Whether the server does not answer because it was not.
    pub blocked: bool,
}

/// What a server delivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerThroughput {
    /// Generated tokens per second.
    pub tokens_per_second: f64,
    /// As the reports define it.
    pub tokens_per_forward: f64,
    /// RFC 3339, UTC.
    pub measured_at: String,
}

/// The last words of a trainer pod, JSON of at most [`TERMINATION_MESSAGE_LIMIT`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TerminationMessage {
    /// What the pod did.
    pub stage: JobStage,
    /// In a failed pod: one sentence that says what to do. Absent on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of a collecting pod (its shard).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trajectories: Option<Trajectories>,
    /// Of an evaluating pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<Speedup>,
    /// Of an evaluating pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Of an evaluating pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

/// What was collected; as on the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trajectories {
    /// Prompts with a usable generation.
    pub examples: u64,
    /// Jacobi blocks.
    pub blocks: u64,
    /// States of these blocks, fixed points included.
    pub states: u64,
    /// Tokens generated.
    pub tokens: u64,
    /// Prompts without a usable generation.
    pub dropped: u64,
    /// The same by reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_because: Option<Dropped>,
    /// Of the target by Jacobi without lookup, a decimal as a string.
    pub tokens_per_forward: String,
    /// Tokens that a Pod generated per second, those of dropped prompts included, a decimal as a string; absent where all was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<String>,
}

/// Prompts without a usable generation, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// The answer ended at once.
    pub empty: u64,
    /// It did not end within the most tokens that it may have.
    pub truncated: u64,
    /// It repeats itself: a run of one token, or a loop of several.
    pub degenerate: u64,
    /// The prompt does not fit the context.
    pub too_long: u64,
}

/// The checkpoint that a training put out; as on the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The full path, digest included.
    pub uri: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Of all files.
    pub size_bytes: u64,
}
