//! Decoding one prompt in every way that is compared, in turns, and adding up what it took.

use std::num::NonZeroUsize;

use cllm_crds::report::{Arm, ArmCheckpoint, ArmStrategy, BlockSizePoint, PromptArm};
use cllm_engine::compare::DecodeTotals;
use cllm_engine::{
    DecodeOptions, Generation, JacobiTrajectory, Model, Sampling, Strategy, Workspace, generate_sampled,
    generate_with_trajectories,
};
use rand::seq::SliceRandom;

use crate::data_order::random;
use crate::failure::{Failure, Result};

/// A way of decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArmKind {
    /// Whose weights.
    pub checkpoint: ArmCheckpoint,
    /// How.
    pub strategy: ArmStrategy,
    /// Rows of a forward.
    pub block_size: NonZeroUsize,
}

impl ArmKind {
    /// One token a forward.
    pub(super) fn autoregressive(checkpoint: ArmCheckpoint) -> Self {
        Self { checkpoint, strategy: ArmStrategy::Autoregressive, block_size: NonZeroUsize::MIN }
    }

    /// Guesses from the model's own predictions.
    pub(super) fn jacobi(checkpoint: ArmCheckpoint, block_size: NonZeroUsize) -> Self {
        Self { checkpoint, strategy: ArmStrategy::Jacobi, block_size }
    }

    /// Guesses from prompt and output too.
    pub(super) fn lookup(checkpoint: ArmCheckpoint, block_size: NonZeroUsize) -> Self {
        Self { checkpoint, strategy: ArmStrategy::JacobiWithLookup, block_size }
    }

    /// Whether it is that checkpoint with guesses from its own predictions and so many rows.
    pub(super) fn is_jacobi(self, checkpoint: ArmCheckpoint, block_size: u32) -> bool {
        self.checkpoint == checkpoint
            && self.strategy == ArmStrategy::Jacobi
            && self.block_size.get() as u32 == block_size
    }

    fn engine_strategy(self) -> Strategy {
        match self.strategy {
            ArmStrategy::Autoregressive => Strategy::Autoregressive,
            ArmStrategy::Jacobi => Strategy::Jacobi { block_size: self.block_size, lookup: false },
            ArmStrategy::JacobiWithLookup => Strategy::Jacobi { block_size: self.block_size, lookup: true },
        }
    }
}

/// Everything that is compared: both checkpoints in three ways at the given block size, and what is fastest at the best one.
pub(super) fn kinds(block_size: NonZeroUsize, best: u32) -> Vec<ArmKind> {
    use ArmCheckpoint::{Cllm, Target};
    let best = NonZeroUsize::new(best as usize).unwrap_or(block_size);
    let mut kinds = vec![
        ArmKind::autoregressive(Target),
        ArmKind::jacobi(Target, block_size),
        ArmKind::lookup(Target, block_size),
        ArmKind::autoregressive(Cllm),
        ArmKind::jacobi(Cllm, block_size),
        ArmKind::lookup(Cllm, block_size),
    ];
    if best != block_size {
        // the target's lookup at the small size too: the comparison must not win by a size that suits only one side
        kinds.extend([ArmKind::lookup(Target, best), ArmKind::jacobi(Cllm, best)]);
    }
    kinds
}

/// Both checkpoints, ready.
#[derive(Debug)]
pub(super) struct Contestants {
    /// Before training.
    pub target: Model,
    /// After training.
    pub cllm: Model,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
}

impl Contestants {
    /// The one with these weights.
    pub(super) fn model(&self, checkpoint: ArmCheckpoint) -> &Model {
        match checkpoint {
            ArmCheckpoint::Target => &self.target,
            ArmCheckpoint::Cllm => &self.cllm,
        }
    }

    /// Decodes a prompt in every way, in an order that is shuffled for each `turn`: an arm is slower after one that used another
    /// checkpoint or wide forwards, so none may always follow the same other one.
    /// Generations come in the order of `kinds`.
    pub(super) fn decode(
        &self,
        kinds: &[ArmKind],
        prompt: &[u32],
        sampling: &Sampling,
        turn: u64,
        workspace: &mut Workspace,
    ) -> Result<Vec<Generation>> {
        let mut generations: Vec<Option<Generation>> = vec![None; kinds.len()];
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        order.shuffle(&mut random(0, "arms", turn));
        for at in order {
            let (model, options) = (self.model(kinds[at].checkpoint), self.options(kinds[at]));
            let generation = generate_sampled(model, workspace, prompt, options, sampling.clone());
            generations[at] = Some(generation.map_err(Failure::engine)?);
        }
        let generations: Vec<Generation> = generations.into_iter().flatten().collect();
        check_exactness(kinds, &generations)?;
        Ok(generations)
    }

    /// The states of the blocks of a greedy answer, all blocks as long as that of `kind` but the last.
    pub(super) fn trajectories(
        &self,
        kind: ArmKind,
        prompt: &[u32],
        workspace: &mut Workspace,
    ) -> Result<Vec<JacobiTrajectory>> {
        let (model, options) = (self.model(kind.checkpoint), self.options(kind));
        let (_, blocks) =
            generate_with_trajectories(model, workspace, prompt, options, kind.block_size).map_err(Failure::engine)?;
        Ok(blocks)
    }

    fn options(&self, kind: ArmKind) -> DecodeOptions {
        DecodeOptions { strategy: kind.engine_strategy(), max_new_tokens: self.max_new_tokens, stop_at_eos: true }
    }
}

/// Strategies never change what a checkpoint says; a report of a broken engine would be worthless.
fn check_exactness(kinds: &[ArmKind], generations: &[Generation]) -> Result<()> {
    for checkpoint in [ArmCheckpoint::Target, ArmCheckpoint::Cllm] {
        let mut of_checkpoint = kinds.iter().zip(generations).filter(|(kind, _)| kind.checkpoint == checkpoint);
        if let Some((_, first)) = of_checkpoint.next()
            && let Some((kind, _)) = of_checkpoint.find(|(_, other)| other.tokens != first.tokens)
        {
            return Err(Failure::engine(format!(
                "{kind:?} gave other tokens than another strategy of the same checkpoint"
            )));
        }
    }
    Ok(())
}

/// An arm and what it took.
pub(super) type MeasuredArm = (ArmKind, Totals);

/// Sums of one arm.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    decode: DecodeTotals,
    correct: u64,
    /// Forwards by tokens emitted, from one token on.
    pub accepted_len_histogram: Vec<u64>,
}

impl Totals {
    /// Adds a prompt. `encode_seconds`: of its tokenisation.
    pub(super) fn add(&mut self, generation: &Generation, encode_seconds: f64, correct: bool) {
        let statistics = &generation.statistics;
        self.decode.add(statistics, encode_seconds);
        self.correct += u64::from(correct);
        let histogram = statistics.accepted_len_histogram.get(1..).unwrap_or_default();
        if self.accepted_len_histogram.len() < histogram.len() {
            self.accepted_len_histogram.resize(histogram.len(), 0);
        }
        for (sum, count) in self.accepted_len_histogram.iter_mut().zip(histogram) {
            *sum += count;
        }
    }

    /// Tokens after the first per second after the prefill.
    pub(super) fn decode_tokens_per_second(&self) -> f64 {
        self.decode.decode_tokens_per_second()
    }

    /// All tokens per second of everything.
    pub(super) fn end_to_end_tokens_per_second(&self) -> f64 {
        self.decode.end_to_end_tokens_per_second()
    }

    /// 1 where no prompt needed a forward after its prefill.
    pub(super) fn tokens_per_forward(&self) -> f64 {
        self.decode.tokens_per_forward()
    }

    /// In percent.
    pub(super) fn quality(&self) -> f64 {
        100.0 * ratio(self.correct as f64, self.decode.prompts as f64)
    }

    /// As the report has it.
    pub(super) fn arm(&self, kind: ArmKind) -> Arm {
        Arm {
            checkpoint: kind.checkpoint,
            strategy: kind.strategy,
            block_size: kind.block_size.get() as u32,
            generated_tokens: self.decode.generated_tokens,
            decode_forwards: self.decode.decode_forwards,
            decode_seconds: self.decode.decode_seconds,
            end_to_end_seconds: self.decode.end_to_end_seconds,
            tokens_per_forward: self.tokens_per_forward(),
            decode_tokens_per_second: self.decode_tokens_per_second(),
            end_to_end_tokens_per_second: self.end_to_end_tokens_per_second(),
            quality: self.quality(),
        }
    }

    /// A point of the block-size curve.
    pub(super) fn point(&self, kind: ArmKind, target: &Self) -> BlockSizePoint {
        BlockSizePoint {
            block_size: kind.block_size.get() as u32,
            tokens_per_forward: self.tokens_per_forward(),
            decode_tokens_per_second: self.decode_tokens_per_second(),
            over_target: ratio(self.decode_tokens_per_second(), target.decode_tokens_per_second()),
        }
    }
}

/// One prompt of one arm.
pub(super) fn prompt_arm(generation: &Generation) -> PromptArm {
    PromptArm {
        tokens: generation.statistics.generated_tokens as u32,
        forwards: generation.statistics.decode_forwards as u32,
        decode_seconds: generation.statistics.decode_seconds,
    }
}

/// 0 where there is nothing to divide by.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
