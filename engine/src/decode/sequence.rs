//! One text being generated: its cache, its tokens, its guesses.

use std::num::NonZeroUsize;
use std::time::Instant;

use super::accept::accepted_len;
use super::guesses::{Basis, Guesses, Source, Verdict};
use super::sampling::{Picker, Sampling};
use super::trajectory::{Blocks, JacobiTrajectory};
use super::{DecodeError, DecodeOptions, FinishReason, Statistics, check_prompt, cut_at_end};
use crate::model::{ForwardError, KvCache, KvPool, Logits, Model, Segment, Workspace};

/// A text that is generated step by step. Only for the model that it was started with.
#[derive(Debug)]
pub struct Sequence {
    options: DecodeOptions,
    cache: KvCache,
    /// Prompt and generated tokens. Once the prompt is computed the cache holds all but the last.
    known: Vec<u32>,
    prompt_tokens: usize,
    /// Most tokens to generate.
    limit: usize,
    picker: Picker,
    guesses: Guesses,
    /// Fixed blocks instead of a sliding window, and what becomes of them; only where trajectories are recorded.
    blocks: Option<Blocks>,
    /// What the next forward computes: known tokens, then guesses.
    inputs: Vec<u32>,
    /// The last so many of them have logits.
    predict: usize,
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
        Self::start_within(&KvPool::unbounded(model), model, prompt, options, sampling)
    }

    /// [`Sequence::start_sampled`] with memory from a pool that other sequences use too.
    pub(crate) fn start_within(
        pool: &KvPool,
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
            cache: KvCache::within(pool, model, prompt.len() + limit),
            known,
            prompt_tokens: prompt.len(),
            limit,
            picker: Picker::new(sampling, model.instruction_set(), model.config().vocab_size, prompt)?,
            guesses: Guesses::new(options.strategy.lookup()),
            blocks: None,
            inputs: Vec::new(),
            predict: 0,
            predictions: Vec::new(),
            finish_reason: None,
            statistics: Statistics { prompt_tokens: prompt.len(), ..Statistics::default() },
        })
    }

    /// The same in fixed blocks, whose trajectories are recorded. Only before the first step.
    pub(crate) fn in_blocks(mut self, first_block_len: NonZeroUsize) -> Self {
        self.blocks = Some(Blocks::new(first_block_len, self.options.strategy.block_size()));
        self.draft_block();
        self
    }

    /// The same with given tokens. Only in blocks, whose states then lead to these tokens, and before the first step.
    pub(crate) fn towards(mut self, answer: Vec<u32>) -> Self {
        self.blocks = self.blocks.map(|blocks| blocks.towards(answer));
        self
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
            let begin = Instant::now();
            let was_prefilled = self.is_prefilled();
            self.plan(self.uncomputed(), rows);
            let logits = model.forward_batch(workspace, &mut [self.segment()])?;
            self.absorb(logits.of(0), model.eos_token_ids());
            self.took(was_prefilled, begin.elapsed().as_secs_f64());
        }
        Ok(&self.known[before..])
    }

    /// Known tokens that the next forwards have to compute, at least one: the last of them finds the next token.
    pub(crate) fn uncomputed(&self) -> usize {
        self.known.len() - self.cache.len().min(self.known.len() - 1)
    }

    /// Chooses what the next forward computes: at most `known` of the known tokens, at least one; where those are all, and the prompt has
    /// been computed before, guesses too, so that the last known token and they are `rows`; of a block always all.
    pub(crate) fn plan(&mut self, known: usize, rows: usize) {
        // A forward that did not come to its end may have left guesses.
        self.cache.truncate(self.known.len() - 1);
        self.inputs.clear();
        self.inputs.extend(self.known[self.cache.len()..].iter().take(known.max(1)));
        self.predict = 0;
        if self.cache.len() + self.inputs.len() == self.known.len() {
            if self.blocks.is_none() {
                self.guesses.shorten(rows.saturating_sub(1));
            }
            self.inputs.extend(self.guesses.window().iter().map(|guess| guess.token));
            self.predict = 1 + self.guesses.window().len();
        }
    }

    /// Makes sure that what is planned can be computed.
    pub(crate) fn reserve(&mut self) -> Result<(), ForwardError> {
        self.cache.reserve(self.inputs.len())
    }

    /// What is planned.
    pub(crate) fn segment(&mut self) -> Segment<'_> {
        Segment { cache: &mut self.cache, tokens: &self.inputs, predict: self.predict }
    }

    /// Takes the logits of what was planned.
    pub(crate) fn absorb(&mut self, logits: Logits<'_>, eos: &[u32]) {
        if self.predict == 0 {
            return;
        }
        let mut predictions = std::mem::take(&mut self.predictions);
        self.pick(logits, &mut predictions);
        let inputs = &self.inputs[self.inputs.len() - self.predict..];
        if let Some(blocks) = &self.blocks {
            blocks.hold(self.known.len() - self.prompt_tokens, &inputs[1..], &mut predictions);
        }
        let accepted = accepted_len(inputs, &predictions);
        let was_prefilled = self.is_prefilled();
        let added = self.emit(eos, &predictions[..accepted]);
        self.cache.truncate(self.known.len() - 1);
        if self.blocks.is_some() {
            self.go_on_in_block(&predictions);
        } else {
            if was_prefilled {
                self.count(added);
            }
            self.refill(added, &predictions[accepted..]);
        }
        self.predictions = predictions;
    }

    /// Counts the time of a forward.
    pub(crate) fn took(&mut self, was_prefilled: bool, seconds: f64) {
        if was_prefilled {
            self.statistics.decode_seconds += seconds;
        } else {
            self.statistics.prefill_seconds += seconds;
        }
    }

    /// Keys and values of known tokens.
    pub(crate) fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// What is cleared is computed again by the next forwards.
    pub(crate) fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// Prompt and generated tokens.
    pub(crate) fn known(&self) -> &[u32] {
        &self.known
    }

    /// Whether the prompt is computed.
    pub fn is_prefilled(&self) -> bool {
        self.known.len() > self.prompt_tokens
    }

    /// Most rows of the next forward: those of the strategy, but never more than tokens are left.
    pub fn rows_limit(&self) -> usize {
        self.fixed_rows().unwrap_or_else(|| self.options.strategy.block_size().min(self.left()).max(1))
    }

    /// Rows that the next forward must have, where blocks are recorded: all that are uncertain of the present one.
    pub(crate) fn fixed_rows(&self) -> Option<usize> {
        self.blocks.as_ref().map(|_| 1 + self.guesses.window().len())
    }

    /// How well the guesses of the next forward are founded.
    pub fn basis(&self) -> Basis {
        self.guesses.basis()
    }

    /// What became of guesses that were looked up; once for each verdict.
    pub(crate) fn verdict(&mut self) -> Option<Verdict> {
        self.guesses.verdict()
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

    /// Those of the blocks that ended; only once, and none unless they are recorded.
    pub(crate) fn take_trajectories(&mut self) -> Vec<JacobiTrajectory> {
        self.blocks.take().map(Blocks::into_trajectories).unwrap_or_default()
    }

    pub(crate) fn into_parts(mut self) -> (Vec<u32>, Statistics) {
        (self.known.split_off(self.prompt_tokens), self.statistics)
    }

    /// The pick of each row with logits: the one that follows its own inputs, right or wrong.
    fn pick(&mut self, logits: Logits<'_>, predictions: &mut Vec<u32>) {
        predictions.clear();
        let inputs = &self.inputs[self.inputs.len() - self.predict..];
        for (row, &input) in inputs.iter().enumerate() {
            if row > 0 {
                self.picker.push(input);
            }
            predictions.push(self.picker.pick(logits.row(row), self.known.len() + row));
        }
        inputs[1..].iter().for_each(|&input| self.picker.pop(input));
    }

    /// Appends found tokens up to the end of the text. Returns their number.
    fn emit(&mut self, eos: &[u32], found: &[u32]) -> usize {
        let eos = if self.options.stop_at_eos { eos } else { &[] };
        let (added, finish_reason) = cut_at_end(found, self.left(), eos);
        self.known.extend_from_slice(&found[..added]);
        found[..added].iter().for_each(|&token| self.picker.push(token));
        self.finish_reason = finish_reason;
        self.statistics.generated_tokens += added;
        added
    }

    /// Counts a forward after the first token that added so many: one of its own, and accepted guesses.
    fn count(&mut self, added: usize) {
        let statistics = &mut self.statistics;
        statistics.count_forward(added);
        statistics.drafted_tokens += self.predict - 1;
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

    /// Records the state that a forward made of the present block, and guesses what is uncertain of it, or drafts the next one.
    fn go_on_in_block(&mut self, predictions: &[u32]) {
        self.statistics.decode_forwards += 1;
        let generated = self.known.len() - self.prompt_tokens;
        let Some(blocks) = &mut self.blocks else { return };
        blocks.push(predictions);
        if self.finish_reason.is_none() && !blocks.is_certain(generated) {
            self.guesses.set(blocks.guesses(generated));
            return;
        }
        blocks.end(generated);
        if self.finish_reason.is_none() {
            self.draft_block();
        }
    }

    /// Begins a block as serving begins a window.
    fn draft_block(&mut self) {
        let left = self.left();
        let Some(blocks) = &mut self.blocks else { return };
        let length = blocks.next_len(left);
        self.guesses.refill(&self.known, 0, &[], length);
        blocks.begin(self.guesses.window().iter().map(|guess| guess.token).collect());
        self.guesses.shorten(length - 1);
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
