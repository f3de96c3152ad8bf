//! The measurement: every group of prompts by every arm, in turns, before the next group.

use std::num::NonZeroUsize;

use cllm_engine::compare::{CompareError, DecodeTotals, Round, Way, decode_in_turns};
use cllm_engine::decode::adaptive::Pace;
use cllm_engine::{Generation, Model, Statistics, Strategy, Workspace, forward_cost};
use serde::Serialize;

use super::BenchError;
use super::prompts::Prompt;
use crate::args::BenchArguments;

/// How often each forward is timed for t(n)/t(1).
const COST_REPETITIONS: usize = 45;

/// How an arm decoded, as the report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum BenchStrategy {
    /// One token a forward.
    Autoregressive,
    /// All rows in every forward, guesses from its own predictions only.
    Jacobi,
    /// All rows in every forward, guesses also from n-gram matches in prompt and output.
    JacobiWithLookup,
    /// As many rows as pay.
    AdaptiveJacobi,
    /// As many rows as pay, with lookup: what a server does by default.
    AdaptiveJacobiWithLookup,
}

impl BenchStrategy {
    pub(super) fn is_adaptive(self) -> bool {
        matches!(self, Self::AdaptiveJacobi | Self::AdaptiveJacobiWithLookup)
    }

    fn has_fixed_rows(self) -> bool {
        matches!(self, Self::Jacobi | Self::JacobiWithLookup)
    }

    fn has_lookup(self) -> bool {
        matches!(self, Self::JacobiWithLookup | Self::AdaptiveJacobiWithLookup)
    }
}

/// A way of decoding and its sums over all prompts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ArmTotals {
    pub(super) strategy: BenchStrategy,
    /// Rows of a forward; the most of them where it is adaptive.
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
    /// Of the autoregressive arm, in the order of the prompts.
    pub(super) answers: Vec<Answer>,
    /// Those of them that another arm gave with other tokens: none where the model is exact.
    pub(super) differing_answers: u64,
}

/// What was asked and what was answered, as token ids, and what it took each arm.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    arms: Vec<ArmCost>,
}

/// What one answer took one arm.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArmCost {
    strategy: BenchStrategy,
    block_size: u32,
    decode_forwards: usize,
    decode_seconds: f64,
}

/// Decodes all prompts by all arms; fails when an arm of an exact model gives other tokens than the autoregressive one.
pub(super) fn measure(
    model: &Model,
    prompts: &[Prompt],
    arguments: &BenchArguments,
) -> Result<Measurement, BenchError> {
    let mut arms = arms(&arguments.block_size, arguments.lookup);
    arms.retain(|arm| !arguments.adaptive_only || !arm.strategy.has_fixed_rows());
    let mut ways: Vec<Way> = arms.iter().map(|arm| way(arm, model, arguments.concurrency)).collect();
    let mut workspace = Workspace::new(model);
    let mut decode = |group: &[Prompt], turn: usize| {
        let tokens: Vec<&[u32]> = group.iter().map(|prompt| &prompt.tokens[..]).collect();
        let (at_once, max_new_tokens) = (arguments.concurrency as usize, arguments.max_new_tokens as usize);
        decode_in_turns(model, &mut workspace, &mut ways, Round { prompts: &tokens, at_once, max_new_tokens, turn })
            .map_err(|error| failed(arguments, group, error))
    };
    let groups = prompts.chunks((arguments.concurrency + arguments.queue) as usize);
    if let Some(first) = groups.clone().next() {
        // the first of all pays for cold caches and scratch memory
        decode(first, 0)?;
    }
    let (mut answers, mut differing_answers) = (Vec::with_capacity(prompts.len()), 0);
    for (turn, group) in groups.enumerate() {
        let mut generations = decode(group, turn)?;
        for (index, prompt) in group.iter().enumerate() {
            let mut costs = Vec::with_capacity(arms.len());
            for (arm, generations) in arms.iter_mut().zip(&generations) {
                arm.totals.add(&generations[index].statistics, prompt.tokenization_seconds);
                costs.push(cost(arm, &generations[index]));
            }
            let differs = |other: &Vec<Generation>| other[index].tokens != generations[0][index].tokens;
            differing_answers += u64::from(generations.iter().any(differs));
            let tokens = std::mem::take(&mut generations[0][index].tokens);
            answers.push(Answer { prompt: prompt.tokens.clone(), tokens, arms: costs });
        }
    }
    let costs = forward_cost(model, &with_one(&arguments.block_size), COST_REPETITIONS);
    Ok(Measurement { prompts: prompts.len() as u64, arms, costs, answers, differing_answers })
}

fn cost(arm: &ArmTotals, generation: &Generation) -> ArmCost {
    let Statistics { decode_forwards, decode_seconds, .. } = generation.statistics;
    ArmCost { strategy: arm.strategy, block_size: arm.block_size, decode_forwards, decode_seconds }
}

/// Every cost is told against that of one row.
fn with_one(block_sizes: &[u32]) -> Vec<usize> {
    let mut rows: Vec<usize> = block_sizes.iter().map(|&size| size as usize).chain([1]).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn failed(arguments: &BenchArguments, group: &[Prompt], source: CompareError) -> BenchError {
    let line = group.first().map_or(0, |prompt| prompt.line);
    BenchError::Decode { path: arguments.prompts.clone(), line, source }
}

fn arms(block_sizes: &[u32], lookup: bool) -> Vec<ArmTotals> {
    use BenchStrategy::{AdaptiveJacobi, AdaptiveJacobiWithLookup, Autoregressive, Jacobi, JacobiWithLookup};
    let mut sizes = block_sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let several = sizes.iter().copied().filter(|&size| size > 1);
    let greatest = several.clone().next_back();
    let mut arms = vec![(Autoregressive, 1)];
    arms.extend(sizes.iter().map(|&size| (Jacobi, size)));
    arms.extend(several.filter(|_| lookup).map(|size| (JacobiWithLookup, size)));
    arms.extend(greatest.map(|size| (AdaptiveJacobi, size)));
    arms.extend(greatest.filter(|_| lookup).map(|size| (AdaptiveJacobiWithLookup, size)));
    arms.into_iter().map(empty).collect()
}

fn empty((strategy, block_size): (BenchStrategy, u32)) -> ArmTotals {
    ArmTotals { strategy, block_size, totals: DecodeTotals::default() }
}

/// Each adaptive arm times forwards for itself, as a server does.
fn way(arm: &ArmTotals, model: &Model, texts: u32) -> Way {
    let block_size = NonZeroUsize::new(arm.block_size as usize).unwrap_or(NonZeroUsize::MIN);
    let strategy = match arm.strategy {
        BenchStrategy::Autoregressive => Strategy::Autoregressive,
        _ => Strategy::Jacobi { block_size, lookup: arm.strategy.has_lookup() },
    };
    let pace = arm.strategy.is_adaptive().then(|| Pace::timed(model, block_size.get(), texts as usize)).flatten();
    Way { strategy, pace }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_arm_for_each_block_size_and_one_against_which_all_are_told() {
        use BenchStrategy::{AdaptiveJacobi, AdaptiveJacobiWithLookup, Autoregressive, Jacobi, JacobiWithLookup};
        let fixed = [(Autoregressive, 1), (Jacobi, 1), (Jacobi, 8)];
        for (sizes, lookup, expected) in [
            (&[8, 1, 8][..], false, [&fixed[..], &[(AdaptiveJacobi, 8)]].concat()),
            (
                &[8, 1, 8],
                true,
                [&fixed[..], &[(JacobiWithLookup, 8), (AdaptiveJacobi, 8), (AdaptiveJacobiWithLookup, 8)]].concat(),
            ),
            (&[1], true, fixed[..2].to_vec()),
        ] {
            let found: Vec<_> = arms(sizes, lookup).into_iter().map(|arm| (arm.strategy, arm.block_size)).collect();
            assert_eq!(found, expected, "{sizes:?} {lookup}");
        }
    }
}
