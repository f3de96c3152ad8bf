//! Jacobi trajectories: what the guesses of a block went through until they were right. Training data.

use std::num::NonZeroUsize;
use std::time::Instant;

use super::accept::accepted_len;
use super::guesses::Guesses;
use super::{DecodeError, DecodeOptions, FinishReason, Generation, Statistics, check_prompt, cut_at_end};
use crate::model::{KvCache, Model, Workspace};

/// The states of one block of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JacobiTrajectory {
    /// Index of the block's first token among the generated tokens.
    pub position: usize,
    /// `states[j][i]` is the token at generated index `position + i` after j forwards. The first state is the initial draft, the last is
    /// the fixed point: the tokens of autoregressive decoding. All have the length of the fixed point, which ends at EOS; neighbors
    /// differ.
    pub states: Vec<Vec<u32>>,
}

/// Decodes a prompt in fixed blocks and records their trajectories. The tokens are those of [`super::generate`].
///
/// Blocks have the strategy's block size, but the first has `first_block_len` at most, so that borders can be put anywhere. A block
/// begins as serving begins one: with what a lookup finds, if the strategy looks up, then the last known token again. It ends when all its
/// tokens are certain; it is not refilled meanwhile. All tokens come from blocks, the first one too, so the statistics have forwards
/// of blocks and neither histogram nor sources of guesses.
pub fn generate_with_trajectories(
    model: &Model,
    workspace: &mut Workspace,
    prompt: &[u32],
    options: DecodeOptions,
    first_block_len: NonZeroUsize,
) -> Result<(Generation, Vec<JacobiTrajectory>), DecodeError> {
    let limit = check_prompt(model, prompt, options)?;
    let mut collector = Collector {
        model,
        eos: if options.stop_at_eos { model.eos_token_ids() } else { &[] },
        cache: KvCache::new(model, prompt.len() + limit),
        known: prompt.to_vec(),
        guesses: Guesses::new(options.strategy.lookup()),
        statistics: Statistics { prompt_tokens: prompt.len(), ..Statistics::default() },
    };
    collector.prefill(workspace)?;
    let mut trajectories = Vec::new();
    let mut block = first_block_len.get().min(options.strategy.block_size());
    loop {
        let position = collector.known.len() - prompt.len();
        let (states, finish_reason) = collector.block(workspace, block, limit - position)?;
        trajectories.push(JacobiTrajectory { position, states });
        block = options.strategy.block_size();
        if let Some(finish_reason) = finish_reason {
            let (tokens, statistics) = (collector.known.split_off(prompt.len()), collector.statistics);
            return Ok((Generation { tokens, finish_reason, statistics }, trajectories));
        }
    }
}

struct Collector<'a> {
    model: &'a Model,
    eos: &'a [u32],
    cache: KvCache,
    /// Prompt and certain tokens; the cache holds all but the last.
    known: Vec<u32>,
    guesses: Guesses,
    statistics: Statistics,
}

impl Collector<'_> {
    /// Computes the prompt but for its last token, which is the known one before the first block.
    fn prefill(&mut self, workspace: &mut Workspace) -> Result<(), DecodeError> {
        let begin = Instant::now();
        let cached = self.known.len() - 1;
        if cached > 0 {
            self.model.forward_last(workspace, &mut self.cache, &self.known[..cached])?;
        }
        self.statistics.prefill_seconds += begin.elapsed().as_secs_f64();
        Ok(())
    }

    /// Iterates one block to its fixed point, or to the end of the text in it.
    fn block(
        &mut self,
        workspace: &mut Workspace,
        block: usize,
        left: usize,
    ) -> Result<(Vec<Vec<u32>>, Option<FinishReason>), DecodeError> {
        let begin = Instant::now();
        let start = self.known.len();
        let length = block.min(left);
        let mut states = vec![self.draft(length)];
        let mut finish_reason = None;
        while finish_reason.is_none() && self.known.len() < start + length {
            let certain = self.known.len() - start;
            let state = &states[states.len() - 1];
            let (predictions, accepted) = self.forward(workspace, &state[certain..])?;
            let (added, reason) = cut_at_end(&predictions[..accepted], left - certain, self.eos);
            states.push([&state[..certain], &predictions].concat());
            self.known.extend_from_slice(&predictions[..added]);
            self.cache.truncate(self.known.len() - 1);
            finish_reason = reason;
        }
        let added = self.known.len() - start;
        for state in &mut states {
            state.truncate(added);
        }
        states.dedup();
        self.statistics.generated_tokens += added;
        self.statistics.decode_seconds += begin.elapsed().as_secs_f64();
        Ok((states, finish_reason))
    }

    fn draft(&mut self, length: usize) -> Vec<u32> {
        self.guesses.refill(&self.known, 0, &[], length);
        self.guesses.window().iter().map(|guess| guess.token).collect()
    }

    /// Predictions for the places of all guesses, and how many of them are certain.
    fn forward(&mut self, workspace: &mut Workspace, guesses: &[u32]) -> Result<(Vec<u32>, usize), DecodeError> {
        let mut inputs = vec![self.known[self.known.len() - 1]];
        inputs.extend_from_slice(&guesses[..guesses.len() - 1]);
        let logits = self.model.forward(workspace, &mut self.cache, &inputs)?;
        self.statistics.decode_forwards += 1;
        let predictions: Vec<u32> = (0..logits.rows()).map(|row| logits.argmax(row)).collect();
        let accepted = accepted_len(&inputs, &predictions);
        Ok((predictions, accepted))
    }
}
