//! All arms on all prompts at one temperature: what they took, and the figures that come of it. Pure.

use cllm_crds::report::{ArmCheckpoint, Conditions, PromptResult, Sampled};
use cllm_engine::Generation;

use super::arms::{ArmKind, MeasuredArm, Totals};
use super::cost::Costs;
use super::intervals::intervals;
use super::metric::Metric;
use super::report::{quality, speedup};

/// What the arms gave so far.
#[derive(Debug)]
pub(super) struct Pass {
    /// In the order in which they were named.
    pub arms: Vec<MeasuredArm>,
    /// In the order of the prompts, as all that follows.
    prompts: Vec<PromptResult>,
    /// What the target says.
    pub answers: Vec<Vec<u32>>,
    /// What forwards cost meanwhile.
    pub costs: Costs,
}

impl Pass {
    /// Of these arms, before the first prompt.
    pub(super) fn new(kinds: &[ArmKind]) -> Self {
        let arms = kinds.iter().map(|kind| (*kind, Totals::default())).collect();
        Self { arms, prompts: Vec::new(), answers: Vec::new(), costs: Costs::default() }
    }

    /// Adds a prompt with the generations of all arms.
    pub(super) fn add(&mut self, result: PromptResult, generations: &[Generation], encode_seconds: f64) {
        for ((kind, totals), generation) in self.arms.iter_mut().zip(generations) {
            let correct = match kind.checkpoint {
                ArmCheckpoint::Target => result.target_correct,
                ArmCheckpoint::Cllm => result.cllm_correct,
            };
            totals.add(generation, encode_seconds, correct);
        }
        let of_target =
            self.arms.iter().zip(generations).find(|((kind, _), _)| kind.checkpoint == ArmCheckpoint::Target);
        self.answers.push(of_target.map_or_else(Vec::new, |(_, generation)| generation.tokens.clone()));
        self.prompts.push(result);
    }

    /// Everything that a report says of a temperature. `best` is the fastest block size of the trained checkpoint.
    pub(super) fn figures(&self, temperature: f64, conditions: &Conditions, metric: Metric, best: u32) -> Sampled {
        let Conditions { hardware, threads, instruction_set, block_size, seed, .. } = conditions;
        let kinds: Vec<ArmKind> = self.arms.iter().map(|(kind, _)| *kind).collect();
        let hardware = format!("{hardware}, {threads} threads, {instruction_set}");
        Sampled {
            temperature,
            speedup: speedup(&self.arms, *block_size, best, hardware),
            quality: quality(&self.arms, metric.name()),
            intervals: intervals(&self.prompts, &kinds, *block_size, best, *seed),
            arms: self.arms.iter().map(|(kind, totals)| totals.arm(*kind)).collect(),
            accepted_len_histogram: self.histogram(ArmCheckpoint::Cllm, *block_size),
            target_accepted_len_histogram: self.histogram(ArmCheckpoint::Target, *block_size),
        }
    }

    /// Of Jacobi without lookup.
    fn histogram(&self, checkpoint: ArmCheckpoint, block_size: u32) -> Vec<u64> {
        let found = self.arms.iter().find(|(kind, _)| kind.is_jacobi(checkpoint, block_size));
        found.map_or_else(Vec::new, |(_, totals)| totals.accepted_len_histogram.clone())
    }

    /// All prompts that were added.
    pub(super) fn into_prompts(self) -> Vec<PromptResult> {
        self.prompts
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use cllm_engine::{FinishReason, Statistics};

    use super::*;

    fn generation(tokens: &[u32], histogram: &[u64]) -> Generation {
        let statistics = Statistics {
            generated_tokens: tokens.len(),
            decode_forwards: histogram.iter().sum::<u64>() as usize,
            decode_seconds: 1.0,
            accepted_len_histogram: histogram.to_vec(),
            ..Statistics::default()
        };
        Generation { tokens: tokens.to_vec(), finish_reason: FinishReason::Stop, statistics }
    }

    #[test]
    fn each_side_has_its_own_answers_and_histogram() {
        let size = NonZeroUsize::new(4).unwrap();
        let kinds = [
            ArmKind::jacobi(ArmCheckpoint::Cllm, NonZeroUsize::MIN),
            ArmKind::jacobi(ArmCheckpoint::Cllm, size),
            ArmKind::autoregressive(ArmCheckpoint::Target),
            ArmKind::jacobi(ArmCheckpoint::Target, size),
        ];
        let mut pass = Pass::new(&kinds);
        for index in 0..2 {
            let result = PromptResult {
                index,
                agrees_with_target: false,
                target_correct: true,
                cllm_correct: index == 0,
                arms: Vec::new(),
            };
            let generations = [
                generation(&[7, 8, 9], &[0, 2]),
                generation(&[7, 8, 9], &[0, 0, 1]),
                generation(&[5, 6, 9, 9], &[0, 3]),
                generation(&[5, 6, 9, 9], &[0, 1, 1]),
            ];
            pass.add(result, &generations, 0.0);
        }
        assert_eq!(pass.answers, [[5, 6, 9, 9], [5, 6, 9, 9]]);
        assert_eq!(pass.histogram(ArmCheckpoint::Cllm, 4), [0, 2]);
        assert_eq!(pass.histogram(ArmCheckpoint::Target, 4), [2, 2]);
        assert!(pass.histogram(ArmCheckpoint::Target, 8).is_empty());
        let quality: Vec<u32> = pass.arms.iter().map(|(_, totals)| totals.quality() as u32).collect();
        assert_eq!(quality, [50, 50, 100, 100]);
        assert_eq!(pass.into_prompts().len(), 2);
    }
}
