//! The measurement: every prompt by every arm before the next prompt, the first arm changing from prompt to prompt.

use std::num::NonZeroUsize;

use cllm_crds::report::ArmStrategy;
use cllm_engine::{DecodeError, DecodeOptions, Generation, Model, Strategy, Workspace, forward_cost, generate};
use serde::Serialize;

use super::BenchError;
use super::prompts::Prompt;
use crate::args::BenchArguments;

/// How often each forward is timed for t(n)/t(1).
const COST_REPETITIONS: usize = 15;

/// Sums over all prompts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ArmTotals {
    pub(super) strategy: ArmStrategy,
    pub(super) block_size: u32,
    pub(super) generated_tokens: u64,
    pub(super) decode_forwards: u64,
    pub(super) decode_seconds: f64,
    pub(super) end_to_end_seconds: f64,
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
    let mut workspace = Workspace::new(model);
    let mut decode = |arm: &ArmTotals, prompt: &Prompt| {
        let options = DecodeOptions {
            strategy: strategy(arm),
            max_new_tokens: arguments.max_new_tokens as usize,
            stop_at_eos: true,
        };
        generate(model, &mut workspace, &prompt.tokens, options).map_err(|source| failed(arguments, prompt, source))
    };
    if let Some(first) = prompts.first() {
        // the first of all pays for cold caches and scratch memory
        arms.iter().try_for_each(|arm| decode(arm, first).map(|_| ()))?;
    }
    let mut answers = Vec::with_capacity(prompts.len());
    for (turn, prompt) in prompts.iter().enumerate() {
        let mut reference: Option<(u32, Vec<u32>)> = None;
        for offset in 0..arms.len() {
            let index = (turn + offset) % arms.len();
            let generation = decode(&arms[index], prompt)?;
            arms[index].add(prompt, &generation);
            let block_size = arms[index].block_size;
            match &reference {
                None => reference = Some((block_size, generation.tokens)),
                Some((other, tokens)) if *tokens != generation.tokens => {
                    return Err(BenchError::Differs {
                        path: arguments.prompts.clone(),
                        line: prompt.line,
                        block_size: block_size.max(*other),
                    });
                }
                Some(_) => {}
            }
        }
        answers.extend(reference.map(|(_, tokens)| Answer { prompt: prompt.tokens.clone(), tokens }));
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

fn failed(arguments: &BenchArguments, prompt: &Prompt, source: DecodeError) -> BenchError {
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
    ArmTotals {
        strategy,
        block_size,
        generated_tokens: 0,
        decode_forwards: 0,
        decode_seconds: 0.0,
        end_to_end_seconds: 0.0,
    }
}

fn strategy(arm: &ArmTotals) -> Strategy {
    let block_size = NonZeroUsize::new(arm.block_size as usize).unwrap_or(NonZeroUsize::MIN);
    match arm.strategy {
        ArmStrategy::Autoregressive => Strategy::Autoregressive,
        ArmStrategy::Jacobi => Strategy::Jacobi { block_size, lookup: false },
        ArmStrategy::JacobiWithLookup => Strategy::Jacobi { block_size, lookup: true },
    }
}

impl ArmTotals {
    fn add(&mut self, prompt: &Prompt, generation: &Generation) {
        let statistics = &generation.statistics;
        self.generated_tokens += statistics.generated_tokens as u64;
        self.decode_forwards += statistics.decode_forwards as u64;
        self.decode_seconds += statistics.decode_seconds;
        self.end_to_end_seconds += prompt.tokenization_seconds + statistics.prefill_seconds + statistics.decode_seconds;
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
