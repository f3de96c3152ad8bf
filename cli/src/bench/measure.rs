//! The measurement: every prompt by every arm before the next prompt, the first arm changing from prompt to prompt.

use std::num::NonZeroUsize;

use cllm_crds::report::ArmStrategy;
use cllm_engine::compare::{CompareError, DecodeTotals, decode_in_turns};
use cllm_engine::{Model, Strategy, Workspace, forward_cost};
use serde::Serialize;

use super::BenchError;
use super::prompts::Prompt;
use crate::args::BenchArguments;

/// How often each forward is timed for t(n)/t(1).
const COST_REPETITIONS: usize = 15;

/// A way of decoding and its sums over all prompts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ArmTotals {
    pub(super) strategy: ArmStrategy,
    pub(super) block_size: u32,
    pub(super) totals: DecodeTotals,
}

/// What was measured: the autoregressive arm first.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) prompts: u64,
    pub(super) arms: Vec<ArmTotals>,
    /// Rows of a forward and its median seconds.
    pub(super) costs: Vec<(usize, f64)>,
    /// The same for every arm, in the order of the prompts.
    pub(super) answers: Vec<Answer>,
}

/// What was asked and what was answered, as token ids.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

/// Decodes all prompts by all arms; fails when an arm gives other tokens than the autoregressive one.
pub(super) fn measure(
    model: &Model,
    prompts: &[Prompt],
    arguments: &BenchArguments,
) -> Result<Measurement, BenchError> {
    let mut arms = arms(&arguments.block_size, arguments.lookup);
    let strategies: Vec<Strategy> = arms.iter().map(strategy).collect();
    let mut workspace = Workspace::new(model);
    let mut decode = |prompt: &Prompt, turn: usize| {
        let limit = arguments.max_new_tokens as usize;
        decode_in_turns(model, &mut workspace, &strategies, &prompt.tokens, limit, turn)
            .map_err(|error| failed(arguments, prompt, error))
    };
    if let Some(first) = prompts.first() {
        // the first of all pays for cold caches and scratch memory
        decode(first, 0)?;
    }
    let mut answers = Vec::with_capacity(prompts.len());
    for (turn, prompt) in prompts.iter().enumerate() {
        let generations = decode(prompt, turn)?;
        for (arm, generation) in arms.iter_mut().zip(&generations) {
            arm.totals.add(&generation.statistics, prompt.tokenization_seconds);
        }
        let first = generations.into_iter().next();
        answers.extend(first.map(|generation| Answer { prompt: prompt.tokens.clone(), tokens: generation.tokens }));
    }
    let costs = forward_cost(model, &with_one(&arguments.block_size), COST_REPETITIONS);
    Ok(Measurement { prompts: prompts.len() as u64, arms, costs, answers })
}

/// Every cost is told against that of one row.
fn with_one(block_sizes: &[u32]) -> Vec<usize> {
    let mut rows: Vec<usize> = block_sizes.iter().map(|&size| size as usize).chain([1]).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn failed(arguments: &BenchArguments, prompt: &Prompt, source: CompareError) -> BenchError {
    BenchError::Decode { path: arguments.prompts.clone(), line: prompt.line, source }
}

fn arms(block_sizes: &[u32], lookup: bool) -> Vec<ArmTotals> {
    let mut sizes = block_sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let jacobi = sizes.iter().map(|&size| (ArmStrategy::Jacobi, size));
    let with_lookup =
        sizes.iter().filter(|&&size| lookup && size > 1).map(|&size| (ArmStrategy::JacobiWithLookup, size));
    std::iter::once((ArmStrategy::Autoregressive, 1)).chain(jacobi).chain(with_lookup).map(empty).collect()
}

fn empty((strategy, block_size): (ArmStrategy, u32)) -> ArmTotals {
    ArmTotals { strategy, block_size, totals: DecodeTotals::default() }
}

fn strategy(arm: &ArmTotals) -> Strategy {
    let block_size = NonZeroUsize::new(arm.block_size as usize).unwrap_or(NonZeroUsize::MIN);
    match arm.strategy {
        ArmStrategy::Autoregressive => Strategy::Autoregressive,
        ArmStrategy::Jacobi => Strategy::Jacobi { block_size, lookup: false },
        ArmStrategy::JacobiWithLookup => Strategy::Jacobi { block_size, lookup: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_arm_for_each_block_size_and_one_against_which_all_are_told() {
        let described = |lookup| -> Vec<(ArmStrategy, u32)> {
            arms(&[8, 1, 8], lookup).into_iter().map(|arm| (arm.strategy, arm.block_size)).collect()
        };
        let plain = [(ArmStrategy::Autoregressive, 1), (ArmStrategy::Jacobi, 1), (ArmStrategy::Jacobi, 8)];
        assert_eq!(described(false), plain);
        assert_eq!(described(true), [&plain[..], &[(ArmStrategy::JacobiWithLookup, 8)]].concat());
    }
}
