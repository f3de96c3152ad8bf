//! The end of a training, for people: the arms of its `report.json` side by side, and against what each figure stands.

use std::path::Path;

use cllm_crds::report::{Arm, ArmCheckpoint, ArmStrategy, Report};

use crate::columns::columns;

/// What `report.json` in the folder of a checkpoint says, with its path; a sentence when it cannot be read.
pub(super) fn describe(checkpoint: &Path) -> String {
    let path = checkpoint.join("report.json");
    let report = std::fs::read_to_string(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_str::<Report>(&text).map_err(|error| error.to_string()));
    match report {
        Ok(report) => format!("\n{}\nreport: {}", summary(&report), path.display()),
        Err(error) => format!("the report {} cannot be read: {error}", path.display()),
    }
}

fn summary(report: &Report) -> String {
    let (speedup, quality, conditions) = (&report.speedup, &report.quality, &report.conditions);
    let [target, cllm] = quality.sides();
    format!(
        "{}\n\n{} × the target autoregressively, {} × the target by Jacobi with lookup, {} × itself autoregressively (decoding, block \
         size {});\n{} × the target end to end; {} {} → {} ({} {}).\nMeasured on {} held-out prompts, one run, \
         interleaved, {} at once: {}, {} threads, {}, {}.",
        arms(report),
        speedup.over_target,
        speedup.over_target_with_lookup,
        speedup.over_own_autoregressive,
        speedup.best_block_size,
        speedup.over_target_end_to_end,
        quality.metric,
        target,
        cllm,
        quality.drop,
        if quality.is_perplexity() { "% more" } else { "points lost" },
        conditions.prompts,
        conditions.concurrency,
        conditions.hardware,
        conditions.threads,
        conditions.instruction_set,
        conditions.weights(),
    )
}

fn arms(report: &Report) -> String {
    let quality = if report.quality.is_perplexity() { "AS THE TARGET" } else { "QUALITY" };
    let heads = ["", "TOKENS/S", "TOKENS/S END TO END", "TOKENS/FORWARD", quality];
    let row = |arm: &Arm| {
        vec![
            name(arm),
            format!("{:.0}", arm.decode_tokens_per_second),
            format!("{:.0}", arm.end_to_end_tokens_per_second),
            format!("{:.2}", arm.tokens_per_forward),
            format!("{:.1} %", arm.quality),
        ]
    };
    let mut arms: Vec<&Arm> = report.arms.iter().collect();
    arms.sort_by_key(|arm| (arm.checkpoint == ArmCheckpoint::Cllm, arm.strategy != ArmStrategy::Autoregressive));
    columns(1, &heads, arms.into_iter().map(row))
}

fn name(arm: &Arm) -> String {
    let checkpoint = match arm.checkpoint {
        ArmCheckpoint::Target => "target",
        ArmCheckpoint::Cllm => "CLLM",
    };
    match arm.strategy {
        ArmStrategy::Autoregressive => format!("{checkpoint} autoregressive"),
        ArmStrategy::Jacobi => format!("{checkpoint} Jacobi (n = {})", arm.block_size),
        ArmStrategy::JacobiWithLookup => format!("{checkpoint} Jacobi with lookup (n = {})", arm.block_size),
    }
}
