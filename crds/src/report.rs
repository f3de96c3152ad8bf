//! The report of an evaluation: written by `cllm-trainer evaluate` and `cllm bench`, read by the operator, the gates and the plots.
//!
//! Decimals that also stand on a resource's status are strings (`"1.85"`); raw measurements are numbers, in SI units.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::training_stages::QualityMetric;

/// The version of this shape; a reader refuses a newer one.
pub const REPORT_VERSION: u32 = 1;

/// What an evaluation measured, under which conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always [`REPORT_VERSION`] when written by this version.
    pub version: u32,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The model before training.
    pub target: CheckpointSummary,
    /// The model after training.
    pub cllm: CheckpointSummary,
    /// Machine and settings of the run.
    pub conditions: Conditions,
    /// The speed-up exactly as on the status of a CllmTraining.
    pub speedup: Speedup,
    /// The quality exactly as on the status of a CllmTraining.
    pub quality: Quality,
    /// How sure these figures are; absent in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// One entry for each combination of checkpoint and strategy, measured interleaved in one run.
    pub arms: Vec<Arm>,
    /// Cost of one forward by its number of rows, on the trained checkpoint.
    pub forward_cost: Vec<ForwardCost>,
    /// The trained checkpoint by Jacobi without lookup at several block sizes.
    pub block_sizes: Vec<BlockSizePoint>,
    /// How often a forward emitted 1, 2, 3, … tokens (index 0 is one token): trained checkpoint, Jacobi without lookup.
    pub accepted_len_histogram: Vec<u64>,
    /// The same of the target; absent in reports of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_accepted_len_histogram: Vec<u64>,
    /// How blocks come to their fixed points; absent in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convergence: Option<Convergence>,
    /// How far the distribution of the trained checkpoint moved; absent in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<Perplexity>,
    /// One entry for each temperature above 0 that was asked for. Everything else in a report is of greedy decoding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sampled: Vec<Sampled>,
    /// One entry for each prompt, in the order of the data set.
    pub prompts: Vec<PromptResult>,
}

/// Which checkpoint was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSummary {
    /// `sha256:` and 64 hexadecimal digits, over the files of the checkpoint.
    pub digest: String,
    /// Number of weights.
    pub parameters: u64,
}

/// Everything that a reader needs to repeat the measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Processor as the kernel names it.
    pub hardware: String,
    /// Threads of the forward.
    pub threads: u32,
    /// Instruction set of the kernels: `portable`, `avx2`, …
    pub instruction_set: String,
    /// Storage of the weights in memory: `f32`, …
    pub dtype: String,
    /// That of the target's, where it is another: fewer bytes to read are an advantage that training did not bring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_dtype: Option<String>,
    /// Version of cllm.
    pub cllm_version: String,
    /// Concurrent requests (1: one prompt at a time).
    pub concurrency: u32,
    /// The block size of the Jacobi arms.
    pub block_size: u32,
    /// The most tokens generated for one prompt.
    pub max_new_tokens: u32,
    /// The data set file.
    pub dataset: String,
    /// Number of prompts measured.
    pub prompts: u64,
    /// `greedy`: how the tokens were chosen of all that is not in [`Report::sampled`].
    pub sampling: String,
    /// Seed of the selection of prompts.
    pub seed: u64,
}

impl Conditions {
    /// How weights are stored, of both sides where they differ.
    pub fn weights(&self) -> String {
        match &self.target_dtype {
            Some(target) => format!("{} (the target {target})", self.dtype),
            None => self.dtype.clone(),
        }
    }
}

/// The speed-up as it stands on the status. Decimals are strings. Ratios are of decode tokens per second, same run, interleaved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Speedup {
    /// Trained checkpoint by Jacobi at its best fixed block size over the target decoded autoregressively.
    pub over_target: String,
    /// The same over the target by Jacobi with prompt lookup: what training earned.
    pub over_target_with_lookup: String,
    /// The same over the trained checkpoint decoded autoregressively.
    pub over_own_autoregressive: String,
    /// Trained over target, prefill and tokenisation included on both sides.
    pub over_target_end_to_end: String,
    /// Tokens per forward of the target by Jacobi without lookup, at `conditions.blockSize`.
    pub tokens_per_forward_before: String,
    /// Tokens per forward of the trained checkpoint by Jacobi without lookup, at `conditions.blockSize`.
    pub tokens_per_forward: String,
    /// The block size with the most tokens per second.
    pub best_block_size: u32,
    /// Processor, threads and instruction set.
    pub hardware: String,
}

/// The quality as it stands on the status. Percentages are strings with one or two decimals, perplexities with three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// `ExactMatch`, `SqlExecution`, `NumericAnswer`, or `Perplexity` where there are no references.
    pub metric: String,
    /// Of the target, in percent; `Perplexity`: of its own answers.
    pub target: String,
    /// Of the trained checkpoint, in percent; `Perplexity`: of the answers of the target.
    pub cllm: String,
    /// `target − cllm`, in points; `Perplexity`: percent by which it rose over that of the target. Negative when training gained.
    pub drop: String,
}

impl Quality {
    /// Whether it is the perplexity of the target's answers, of which less is better, and no share of correct ones.
    pub fn is_perplexity(&self) -> bool {
        self.metric == QualityMetric::Perplexity.as_str()
    }

    /// Target and trained checkpoint with their unit, if they have one.
    pub fn sides(&self) -> [String; 2] {
        let unit = if self.is_perplexity() { "" } else { " %" };
        [&self.target, &self.cllm].map(|side| format!("{side}{unit}"))
    }
}

/// 95 % intervals by bootstrap over prompts; both sides of a comparison are of the same prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intervals {
    /// Of [`Speedup::over_target`].
    pub over_target: Interval,
    /// Of [`Speedup::over_target_with_lookup`].
    pub over_target_with_lookup: Interval,
    /// Of [`Speedup::over_own_autoregressive`].
    pub over_own_autoregressive: Interval,
    /// Of [`Speedup::tokens_per_forward`].
    pub tokens_per_forward: Interval,
    /// Of [`Quality::drop`], in its unit.
    pub quality_drop: Interval,
}

/// From the 2.5th to the 97.5th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// How blocks come to their fixed points by Jacobi without lookup, greedily: counted as the CLLM paper does (section 3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Convergence {
    /// The first prompts, which were decoded once more for it.
    pub prompts: u64,
    /// Tokens of a block; the last one of an answer may have fewer.
    pub block_size: u32,
    /// Of the target.
    pub target: BlockCounts,
    /// Of the trained checkpoint.
    pub cllm: BlockCounts,
}

/// Means over blocks. A block begins with a draft that is nearly always wrong, and an iteration is a forward that changes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockCounts {
    /// Number of blocks.
    pub blocks: u64,
    /// Iterations until all tokens of a block are right; what only confirms them is none, but 1 where the draft was right.
    pub iterations: f64,
    /// Fast-forwarded tokens: those by which an iteration lengthens the run of right tokens at the beginning of its block; the mean over
    /// the iterations of each block.
    pub fast_forwarded: f64,
    /// Stationary tokens of a block: right before the run of right tokens reaches them, and never wrong again.
    pub stationary: f64,
}

/// Perplexity of the target's greedy answers to the measured prompts, every token after the right ones before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Perplexity {
    /// Tokens of these answers, EOS counted.
    pub tokens: u64,
    /// Of the target itself: 1 where it was sure of every token.
    pub target: f64,
    /// Of the trained checkpoint.
    pub cllm: f64,
    /// 95 % interval of `cllm ÷ target`, as those of [`Intervals`].
    pub ratio_interval: Interval,
}

/// What [`Report`] says of greedy decoding, said of tokens that are drawn at a temperature.
///
/// The noise depends on prompt and position alone: every strategy of a checkpoint gives the same text, and both checkpoints have the
/// same luck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sampled {
    /// Logits are divided by it; nothing else is changed before the draw.
    pub temperature: f64,
    /// At the same block sizes as of greedy decoding, the fastest one too.
    pub speedup: Speedup,
    /// By the same metric.
    pub quality: Quality,
    /// How sure these figures are.
    pub intervals: Intervals,
    /// The same combinations as of greedy decoding, measured interleaved.
    pub arms: Vec<Arm>,
    /// As [`Report::accepted_len_histogram`].
    pub accepted_len_histogram: Vec<u64>,
    /// As [`Report::target_accepted_len_histogram`].
    pub target_accepted_len_histogram: Vec<u64>,
}

/// Whose weights an arm used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ArmCheckpoint {
    /// The model before training.
    Target,
    /// The model after training.
    Cllm,
}

/// How an arm decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ArmStrategy {
    /// One token a forward.
    Autoregressive,
    /// Jacobi, guesses from its own predictions only.
    Jacobi,
    /// Jacobi, guesses also from n-gram matches in prompt and output.
    JacobiWithLookup,
}

/// One way of decoding, over all prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// Whose weights.
    pub checkpoint: ArmCheckpoint,
    /// How.
    pub strategy: ArmStrategy,
    /// Rows of a forward; 1 for autoregressive decoding.
    pub block_size: u32,
    /// Tokens generated, EOS counted.
    pub generated_tokens: u64,
    /// Forwards after the prefill.
    pub decode_forwards: u64,
    /// Time in these forwards and the decisions between them.
    pub decode_seconds: f64,
    /// Prefill included.
    pub end_to_end_seconds: f64,
    /// (generated tokens − prompts) ÷ decode forwards.
    pub tokens_per_forward: f64,
    /// (generated tokens − prompts) ÷ decode seconds.
    pub decode_tokens_per_second: f64,
    /// Generated tokens ÷ end-to-end seconds.
    pub end_to_end_tokens_per_second: f64,
    /// Correct answers in percent; `Perplexity`: those that are the target's, token for token.
    pub quality: f64,
}

/// What one forward costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForwardCost {
    /// Rows of the forward.
    pub rows: u32,
    /// Median seconds; of `evaluate` the mean of such medians at several moments while the prompts were decoded.
    pub seconds: f64,
    /// t(rows) ÷ t(1).
    pub ratio: f64,
}

/// The trained checkpoint by Jacobi without lookup at one block size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockSizePoint {
    /// Rows of a forward.
    pub block_size: u32,
    /// As in [`Arm`].
    pub tokens_per_forward: f64,
    /// As in [`Arm`].
    pub decode_tokens_per_second: f64,
    /// Over the target decoded autoregressively, same run.
    pub over_target: f64,
}

/// One prompt under all arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromptResult {
    /// Line of the data set, from 0.
    pub index: u64,
    /// The trained checkpoint answers as the target does, token for token.
    pub agrees_with_target: bool,
    /// By the metric; `Perplexity`: always.
    pub target_correct: bool,
    /// By the metric; `Perplexity`: where it agrees with the target.
    pub cllm_correct: bool,
    /// In the order of [`Report::arms`].
    pub arms: Vec<PromptArm>,
}

/// One prompt under one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromptArm {
    /// Tokens generated, EOS counted.
    pub tokens: u32,
    /// Forwards after the prefill.
    pub forwards: u32,
    /// Time in these forwards.
    pub decode_seconds: f64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_perplexity_has_no_unit() {
        for (metric, is_perplexity, expected) in
            [("ExactMatch", false, ["90.00 %", "89.50 %"]), ("Perplexity", true, ["90.00", "89.50"])]
        {
            let [target, cllm] = ["90.00", "89.50"].map(str::to_owned);
            let quality = Quality { metric: metric.to_owned(), target, cllm, drop: "0.50".to_owned() };
            assert_eq!((quality.is_perplexity(), quality.sides()), (is_perplexity, expected.map(str::to_owned)));
        }
    }

    /// The benchmarks read reports in Python, and their tests do so from these files.
    #[test]
    fn the_reports_that_the_benchmarks_are_tested_with_have_this_shape() -> Result<(), Box<dyn std::error::Error>> {
        for name in ["cllm", "control"] {
            let path = format!("{}/../benchmarks/common/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path)?;
            let report: Report = serde_json::from_str(&text)?;
            let fields = |value: &Value| {
                value.as_object().map_or_else(BTreeSet::new, |fields| fields.keys().cloned().collect::<BTreeSet<_>>())
            };
            let (written, read) = (serde_json::from_str::<Value>(&text)?, serde_json::to_value(&report)?);
            for field in fields(&read) {
                assert_eq!(fields(&written[&field]), fields(&read[&field]), "{path}: {field}");
            }
            assert_eq!(report.prompts[0].arms.len(), report.arms.len(), "{path}");
        }
        Ok(())
    }
}
