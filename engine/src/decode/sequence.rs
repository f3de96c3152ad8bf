//! One text being generated: its cache, its tokens, its guesses.

use std::time::Instant;

use super::accept::accepted_len;
use super::guesses::{Guesses, Source};
use super::sampling::{Picker, Sampling};
use super::{DecodeError, DecodeOptions, FinishReason, Statistics, check_prompt, cut_at_end};
use crate::model::{KvCache, Model, Workspace};

/// A text that is generated step by step. Only for the model that it was started with.
#[derive(Debug)]
pub struct Sequence {
    options: DecodeOptions,
    cache: KvCache,
    /// Prompt and generated tokens. After the prefill the cache holds all but the last.
    known: Vec<u32>,
    prompt_tokens: usize,
    /// Most tokens to generate.
    limit: usize,
    picker: Picker,
    guesses: Guesses,
    inputs: Vec<u32>,
    predictions: Vec<u32>,
    finish_reason: Option<FinishReason>,
    statistics: Statistics,
}

impl Sequence {
    /// Checks the prompt and makes room for it; computes nothing yet. Tokens will be the most likely ones.
    pub fn start(model: &Model, prompt: &[u32], options: DecodeOptions) -> Result<Self, DecodeError> {
        Self::start_sampled(model, prompt, options, Sampling::default())
    }

    /// [`Sequence::start`] of a text whose tokens will be drawn as `sampling` says.
    pub fn start_sampled(
        model: &Model,
        prompt: &[u32],
        options: DecodeOptions,
        sampling: Sampling,
    ) -> Result<Self, DecodeError> {
        let limit = check_prompt(model, prompt, options)?;
        let mut known = Vec::with_capacity(prompt.len() + limit);
        known.extend_from_slice(prompt);
        Ok(Self {
            options,
            cache: KvCache::new(model, prompt.len() + limit),
            known,
            prompt_tokens: prompt.len(),
            limit,
            picker: Picker::new(sampling, model.instruction_set(), model.config().vocab_size, prompt)?,
            guesses: Guesses::new(options.strategy.lookup()),
            inputs: Vec::new(),
            predictions: Vec::new(),
            finish_reason: None,
            statistics: Statistics { prompt_tokens: prompt.len(), ..Statistics::default() },
        })
    }

    /// The first step computes the prompt and finds the first token; every later one runs one forward. Returns the tokens found: at
    /// least one, none after the end of the text.
    pub fn step(&mut self, model: &Model, workspace: &mut Workspace) -> Result<&[u32], DecodeError> {
        self.step_with(model, workspace, self.rows_limit())
    }

    /// [`Sequence::step`] with so many rows, where it is not the first: at least one, at most [`Sequence::rows_limit`].
    pub fn step_with(&mut self, model: &Model, workspace: &mut Workspace, rows: usize) -> Result<&[u32], DecodeError> {
        let before = self.known.len();
        if self.finish_reason.is_none() {
            if self.is_prefilled() {
                self.guesses.shorten(rows.saturating_sub(1));
                self.decode_step(model, workspace)?;
            } else {
                self.prefill(model, workspace)?;
            }
        }
        Ok(&self.known[before..])
    }

    /// Whether the prompt is computed.
    pub fn is_prefilled(&self) -> bool {
        self.known.len() > self.prompt_tokens
    }

    /// Most rows of the next forward: those of the strategy, but never more than tokens are left.
    pub fn rows_limit(&self) -> usize {
        self.options.strategy.block_size().min(self.left()).max(1)
    }

    /// Positions that the next forward reads.
    pub fn context(&self) -> usize {
        self.cache.len()
    }

    /// Why the text ended; none while it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// Tokens generated so far.
    pub fn tokens(&self) -> &[u32] {
        &self.known[self.prompt_tokens..]
    }

    /// What it took so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    pub(super) fn into_parts(mut self) -> (Vec<u32>, Statistics) {
        (self.known.split_off(self.prompt_tokens), self.statistics)
    }

    fn prefill(&mut self, model: &Model, workspace: &mut Workspace) -> Result<(), DecodeError> {
        let begin = Instant::now();
        let logits = model.forward_last(workspace, &mut self.cache, &self.known)?;
        let first = self.picker.pick(logits.row(0), self.known.len());
        self.emit(model, &[first]);
        self.refill(1, &[]);
        self.statistics.prefill_seconds += begin.elapsed().as_secs_f64();
        Ok(())
    }

    fn decode_step(&mut self, model: &Model, workspace: &mut Workspace) -> Result<(), DecodeError> {
        let begin = Instant::now();
        self.inputs.clear();
        self.inputs.extend(self.known.last());
        self.inputs.extend(self.guesses.window().iter().map(|guess| guess.token));
        let logits = model.forward(workspace, &mut self.cache, &self.inputs)?;
        let mut predictions = std::mem::take(&mut self.predictions);
        predictions.clear();
        // The pick of a row is the one that follows its own inputs, right or wrong.
        for (row, &input) in self.inputs.iter().enumerate() {
            if row > 0 {
                self.picker.push(input);
            }
            predictions.push(self.picker.pick(logits.row(row), self.known.len() + row));
        }
        self.inputs[1..].iter().for_each(|&input| self.picker.pop(input));
        let accepted = accepted_len(&self.inputs, &predictions);
        let added = self.emit(model, &predictions[..accepted]);
        self.cache.truncate(self.known.len() - 1);
        self.count(added);
        self.refill(added, &predictions[accepted..]);
        self.predictions = predictions;
        self.statistics.decode_seconds += begin.elapsed().as_secs_f64();
        Ok(())
    }

    /// Appends found tokens up to the end of the text. Returns their number.
    fn emit(&mut self, model: &Model, found: &[u32]) -> usize {
        let eos = if self.options.stop_at_eos { model.eos_token_ids() } else { &[] };
        let (added, finish_reason) = cut_at_end(found, self.left(), eos);
        self.known.extend_from_slice(&found[..added]);
        found[..added].iter().for_each(|&token| self.picker.push(token));
        self.finish_reason = finish_reason;
        self.statistics.generated_tokens += added;
        added
    }

    /// Counts a forward that added so many tokens: one of its own, and accepted guesses.
    fn count(&mut self, added: usize) {
        let statistics = &mut self.statistics;
        statistics.count_forward(added);
        for guess in &self.guesses.window()[..added - 1] {
            match guess.source {
                Source::Lookup => statistics.accepted_from_lookup += 1,
                Source::Prediction => statistics.accepted_from_predictions += 1,
            }
            if guess.stationary {
                statistics.stationary_tokens += 1;
            } else {
                statistics.fast_forwarded_tokens += 1;
            }
        }
    }

    /// Slides the window: never more rows than tokens are left.
    fn refill(&mut self, added: usize, rest: &[u32]) {
        self.guesses.refill(&self.known, added, rest, self.rows_limit() - 1);
    }

    /// Tokens that may still be generated.
    fn left(&self) -> usize {
        self.limit - (self.known.len() - self.prompt_tokens)
    }
}
