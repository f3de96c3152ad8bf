//! A measurement as JSON and as a table: no figure without what it was measured against.

use cllm_crds::report::{CheckpointSummary, Conditions, ForwardCost};
use cllm_engine::HardwareDescription;
use cllm_engine::compare::DecodeTotals;
use serde::Serialize;

use super::measure::{ArmTotals, BenchStrategy, Measurement};
use crate::args::BenchArguments;
use crate::columns::columns;

/// What `cllm bench` measured. Seconds and tokens are sums over all prompts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BenchReport {
    /// RFC 3339, UTC.
    created_at: String,
    checkpoint: CheckpointSummary,
    conditions: Conditions,
    /// All arms gave the same tokens for every prompt. On the processor a measurement in which they did not is not reported; on a GPU texts
    /// may part at near-ties.
    tokens_equal: bool,
    /// Prompts for which they did not.
    differing_answers: u64,
    arms: Vec<BenchArm>,
    forward_cost: Vec<ForwardCost>,
}

/// One way of decoding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BenchArm {
    strategy: BenchStrategy,
    /// Rows of a forward; the most of them where it is adaptive.
    block_size: u32,
    generated_tokens: u64,
    decode_forwards: u64,
    decode_seconds: f64,
    end_to_end_seconds: f64,
    tokens_per_forward: f64,
    decode_tokens_per_second: f64,
    end_to_end_tokens_per_second: f64,
    /// Of decode tokens per second, against the autoregressive arm.
    over_autoregressive: f64,
    /// The same, prefill and tokenization included.
    over_autoregressive_end_to_end: f64,
}

pub(super) fn report(
    arguments: &BenchArguments,
    checkpoint: CheckpointSummary,
    hardware: &HardwareDescription,
    measurement: &Measurement,
) -> BenchReport {
    let costs = &measurement.costs;
    let one_row = costs.iter().find(|(rows, _)| *rows == 1).map_or(f64::NAN, |(_, seconds)| *seconds);
    let cost = |&(rows, seconds): &(usize, f64)| ForwardCost { rows: rows as u32, seconds, ratio: seconds / one_row };
    BenchReport {
        created_at: k8s_openapi::jiff::Timestamp::now().to_string(),
        checkpoint,
        conditions: conditions(arguments, hardware, measurement.prompts),
        tokens_equal: measurement.differing_answers == 0,
        differing_answers: measurement.differing_answers,
        arms: rates(&measurement.arms),
        forward_cost: costs.iter().map(cost).collect(),
    }
}

fn conditions(arguments: &BenchArguments, hardware: &HardwareDescription, prompts: u64) -> Conditions {
    Conditions {
        hardware: hardware.processor.clone(),
        threads: hardware.threads as u32,
        instruction_set: hardware.instruction_set.to_owned(),
        dtype: hardware.storage.clone(),
        target_dtype: None,
        cllm_version: env!("CARGO_PKG_VERSION").to_owned(),
        concurrency: arguments.concurrency,
        block_size: arguments.block_size.iter().copied().max().unwrap_or(1),
        max_new_tokens: arguments.max_new_tokens,
        dataset: arguments.prompts.display().to_string(),
        prompts,
        sampling: "greedy".to_owned(),
        seed: 0,
    }
}

fn rates(arms: &[ArmTotals]) -> Vec<BenchArm> {
    let rate = |totals: &DecodeTotals| (totals.decode_tokens_per_second(), totals.end_to_end_tokens_per_second());
    let base = arms.first().map_or((f64::NAN, f64::NAN), |arm| rate(&arm.totals));
    let arm = |ArmTotals { strategy, block_size, totals }: &ArmTotals| {
        let (decode_rate, end_to_end_rate) = rate(totals);
        BenchArm {
            strategy: *strategy,
            block_size: *block_size,
            generated_tokens: totals.generated_tokens,
            decode_forwards: totals.decode_forwards,
            decode_seconds: totals.decode_seconds,
            end_to_end_seconds: totals.end_to_end_seconds,
            tokens_per_forward: totals.tokens_per_forward(),
            decode_tokens_per_second: decode_rate,
            end_to_end_tokens_per_second: end_to_end_rate,
            over_autoregressive: decode_rate / base.0,
            over_autoregressive_end_to_end: end_to_end_rate / base.1,
        }
    };
    arms.iter().map(arm).collect()
}

/// For people.
pub(super) fn describe(report: &BenchReport) -> String {
    let conditions = &report.conditions;
    format!(
        "{}\n\nRatios are against autoregressive decoding of the same checkpoint ({} parameters, {}), same run, in \
         turns of a few forwards; {}.\n{} prompts of {}, at most {} tokens each, {} at a time: {}, {} threads, \
         {}, {}.",
        table(report),
        report.checkpoint.parameters,
        report.checkpoint.digest,
        agreement(report),
        conditions.prompts,
        conditions.dataset,
        conditions.max_new_tokens,
        conditions.concurrency,
        conditions.hardware,
        conditions.threads,
        conditions.instruction_set,
        conditions.dtype,
    )
}

fn agreement(report: &BenchReport) -> String {
    match report.differing_answers {
        0 => "all arms gave the same tokens".to_owned(),
        differing => format!("{differing} answers part at a near-tie between arms, as they may on a GPU"),
    }
}

fn table(report: &BenchReport) -> String {
    let heads = ["", "TOKENS/FORWARD", "t(n)/t(1)", "TOKENS/S", "RATIO", "TOKENS/S END TO END", "RATIO"];
    let row = |arm: &BenchArm| {
        let cost = report.forward_cost.iter().find(|cost| cost.rows == arm.block_size && !arm.strategy.is_adaptive());
        vec![
            name(arm),
            format!("{:.2}", arm.tokens_per_forward),
            cost.map_or_else(|| "-".to_owned(), |cost| format!("{:.2}", cost.ratio)),
            format!("{:.0}", arm.decode_tokens_per_second),
            format!("{:.2} ×", arm.over_autoregressive),
            format!("{:.0}", arm.end_to_end_tokens_per_second),
            format!("{:.2} ×", arm.over_autoregressive_end_to_end),
        ]
    };
    columns(1, &heads, report.arms.iter().map(row))
}

fn name(arm: &BenchArm) -> String {
    match arm.strategy {
        BenchStrategy::Autoregressive => "autoregressive".to_owned(),
        BenchStrategy::Jacobi => format!("Jacobi (n = {})", arm.block_size),
        BenchStrategy::JacobiWithLookup => format!("Jacobi with lookup (n = {})", arm.block_size),
        BenchStrategy::AdaptiveJacobi => format!("adaptive Jacobi (n ≤ {})", arm.block_size),
        BenchStrategy::AdaptiveJacobiWithLookup => format!("adaptive Jacobi with lookup (n ≤ {})", arm.block_size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_against_the_first_arm() {
        let arm = |strategy, block_size, decode_forwards, decode_seconds| ArmTotals {
            strategy,
            block_size,
            totals: DecodeTotals {
                prompts: 2,
                generated_tokens: 22,
                decode_forwards,
                decode_seconds,
                end_to_end_seconds: decode_seconds + 1.0,
            },
        };
        let arms = rates(&[arm(BenchStrategy::Autoregressive, 1, 20, 2.0), arm(BenchStrategy::Jacobi, 8, 8, 1.0)]);
        assert_eq!((arms[0].tokens_per_forward, arms[1].tokens_per_forward), (1.0, 2.5));
        assert_eq!((arms[0].decode_tokens_per_second, arms[1].over_autoregressive), (10.0, 2.0));
        assert_eq!((arms[1].end_to_end_tokens_per_second, arms[1].over_autoregressive_end_to_end), (11.0, 1.5));
    }
}
