//! Decoding one prompt in every way that is compared, in turns, and adding up what it took.

use std::num::NonZeroUsize;

use cllm_crds::report::{Arm, ArmCheckpoint, ArmStrategy, BlockSizePoint, PromptArm};
use cllm_engine::compare::DecodeTotals;
use cllm_engine::{DecodeOptions, Generation, Model, Strategy, Workspace, generate};
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

    fn engine_strategy(self) -> Strategy {
        match self.strategy {
            ArmStrategy::Autoregressive => Strategy::Autoregressive,
            ArmStrategy::Jacobi => Strategy::Jacobi { block_size: self.block_size, lookup: false },
            ArmStrategy::JacobiWithLookup => Strategy::Jacobi { block_size: self.block_size, lookup: true },
        }
    }
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
    fn model(&self, checkpoint: ArmCheckpoint) -> &Model {
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
        turn: u64,
        workspace: &mut Workspace,
    ) -> Result<Vec<Generation>> {
        let mut generations: Vec<Option<Generation>> = vec![None; kinds.len()];
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        order.shuffle(&mut random(0, "arms", turn));
        for at in order {
            let options = DecodeOptions {
                strategy: kinds[at].engine_strategy(),
                max_new_tokens: self.max_new_tokens,
                stop_at_eos: true,
            };
            let model = self.model(kinds[at].checkpoint);
            generations[at] = Some(generate(model, workspace, prompt, options).map_err(Failure::engine)?);
        }
        let generations: Vec<Generation> = generations.into_iter().flatten().collect();
        check_exactness(kinds, &generations)?;
        Ok(generations)
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
