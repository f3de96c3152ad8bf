//! Continuous batching: texts of different lengths and numbers of rows share forwards, join and leave between any two of them, and share
//! a bounded KV memory.
//!
//! [`plan`] decides, purely, what each text computes in the next forward; [`prefixes`] remembers what was computed; [`Batch`] acts. What a
//! text becomes does not depend on the texts beside it, nor on what is remembered, nor on how often it had to give its memory back. Nor do
//! the states of its blocks, where those are recorded.

mod plan;
mod prefixes;

use std::num::NonZeroUsize;
use std::time::Instant;

use crate::decode::adaptive::{Pace, TextPace, Turn};
use crate::decode::{
    DecodeError, DecodeOptions, FinishReason, Generation, JacobiTrajectory, Sampling, Sequence, Statistics, Strategy,
};
use crate::model::{ForwardError, KvPool, Model, PAGE, Segment, Workspace};
use plan::{Need, most_rows, share};
use prefixes::Prefixes;

/// Texts of one model that are decoded together.
#[derive(Debug)]
pub struct Batch {
    pool: KvPool,
    prefixes: Prefixes,
    options: BatchOptions,
    counters: Counters,
}

/// How a batch works.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// Gives forwards as many rows as pay; without it they have as many as the strategies of the texts say.
    pub pace: Option<Pace>,
    /// Whether texts that begin alike share what was computed, also of texts that ended.
    pub prefix_cache: bool,
}

/// A text in a batch. Only for the batch that started it.
#[derive(Debug)]
pub struct Text {
    sequence: Sequence,
    pace: TextPace,
    /// Whether a forward was for it since it last held nothing.
    has_begun: bool,
}

/// What a batch did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Forwards.
    pub forwards: u64,
    /// Texts that had to give their memory back to older ones; they computed it again later.
    pub preemptions: u64,
    /// Tokens that texts began with or came back with.
    pub asked_tokens: u64,
    /// Those of them whose keys and values were remembered.
    pub remembered_tokens: u64,
}

impl Text {
    /// Tokens generated so far.
    pub fn tokens(&self) -> &[u32] {
        self.sequence.tokens()
    }

    /// Whether its prompt is computed.
    pub fn is_prefilled(&self) -> bool {
        self.sequence.is_prefilled()
    }

    /// The whole of it; none while it has not ended.
    pub fn into_generation(self) -> Option<Generation> {
        let finish_reason = self.finish_reason()?;
        let (tokens, statistics) = self.sequence.into_parts();
        Some(Generation { tokens, finish_reason, statistics })
    }

    /// The whole of it with the trajectories of its blocks, none of a text that was not started in blocks. None while it has not ended.
    pub fn into_trajectories(mut self) -> Option<(Generation, Vec<JacobiTrajectory>)> {
        let trajectories = self.sequence.take_trajectories();
        Some((self.into_generation()?, trajectories))
    }

    /// Why it ended; none while it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.sequence.finish_reason()
    }

    /// What it took so far. Forwards that are shared count fully for each text.
    pub fn statistics(&self) -> &Statistics {
        self.sequence.statistics()
    }

    fn need(&self, rows: usize) -> Need {
        let uncomputed = if self.finish_reason().is_some() { 0 } else { self.sequence.uncomputed() };
        Need { uncomputed, decodes: self.sequence.is_prefilled(), rows }
    }

    fn preempt(&mut self) {
        self.sequence.cache_mut().clear();
        self.has_begun = false;
    }
}

impl Batch {
    /// For texts whose keys and values share `pool`. It should have room for one of the longest of them and a page more, which
    /// [`Batch::start`] would refuse.
    pub fn new(pool: KvPool, options: BatchOptions) -> Self {
        Self { pool, prefixes: Prefixes::default(), options, counters: Counters::default() }
    }

    /// What it did so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What it learned about rows.
    pub fn into_pace(self) -> Option<Pace> {
        self.options.pace
    }

    /// The memory that its texts share.
    pub fn pool(&self) -> &KvPool {
        &self.pool
    }

    /// Pages with keys and values that no text needs now: they make room when it is needed.
    pub fn remembered_pages(&self) -> usize {
        self.prefixes.evictable()
    }

    /// Checks a prompt, and that the memory has room for the text at its longest; computes nothing yet.
    pub fn start(
        &mut self,
        model: &Model,
        prompt: &[u32],
        options: DecodeOptions,
        sampling: Sampling,
    ) -> Result<Text, DecodeError> {
        let sequence = Sequence::start_within(&self.pool, model, prompt, options, sampling)?;
        // one page more while a shared one is copied
        if sequence.cache().capacity().div_ceil(PAGE) >= self.pool.pages() {
            return Err(ForwardError::KvMemory(self.pool.full()).into());
        }
        Ok(Text { sequence, pace: TextPace::default(), has_begun: false })
    }

    /// [`Batch::start`] of a text that is decoded in fixed blocks, always with the most likely token, and whose trajectories are recorded:
    /// those of [`crate::generate_with_trajectories`]. Its forwards have all rows of a block, whatever the pace and the other texts.
    pub fn start_in_blocks(
        &mut self,
        model: &Model,
        prompt: &[u32],
        options: DecodeOptions,
        first_block_len: NonZeroUsize,
    ) -> Result<Text, DecodeError> {
        let text = self.start(model, prompt, options, Sampling::default())?;
        Ok(Text { sequence: text.sequence.in_blocks(first_block_len), ..text })
    }

    /// [`Batch::start_in_blocks`] of a text whose tokens are given: its trajectories are what the guesses of this model go through on the
    /// way to `answer`, wherever that comes from. A prediction that follows right tokens alone counts as the token of the answer, which is what
    /// verification makes of it; all others are the model's. For an answer of the model itself they are those of
    /// [`Batch::start_in_blocks`].
    pub fn start_towards(
        &mut self,
        model: &Model,
        prompt: &[u32],
        answer: &[u32],
        strategy: Strategy,
        first_block_len: NonZeroUsize,
    ) -> Result<Text, DecodeError> {
        model.check_tokens(answer)?;
        // the answer says where it ends
        let options = DecodeOptions { strategy, max_new_tokens: answer.len(), stop_at_eos: false };
        let text = self.start_in_blocks(model, prompt, options, first_block_len)?;
        Ok(Text { sequence: text.sequence.towards(answer.to_vec()), ..text })
    }

    /// Remembers what a text computed, for texts that begin alike. For one that ended or is given up.
    pub fn finish(&mut self, text: &Text) {
        let cache = text.sequence.cache();
        if self.options.prefix_cache {
            self.prefixes.insert(&text.sequence.known()[..cache.len()], cache.pages());
        }
    }

    /// One forward for texts that have not ended, oldest first. A text may get nothing from it: part of its prompt was computed, or it
    /// waits for memory; the oldest always goes on.
    pub fn step(
        &mut self,
        model: &Model,
        workspace: &mut Workspace,
        texts: &mut [&mut Text],
    ) -> Result<(), DecodeError> {
        let begin = Instant::now();
        let rows = self.rows(texts);
        self.recall(texts);
        let needs: Vec<Need> = texts.iter().zip(&rows).map(|(text, &rows)| text.need(rows)).collect();
        let mut known = share(&needs);
        self.make_room(texts, &rows, &mut known)?;
        let mut chosen: Vec<(&mut Text, Need)> = texts
            .iter_mut()
            .zip(&needs)
            .zip(&known)
            .filter_map(|((text, &need), &known)| (known > 0).then_some((&mut **text, need)))
            .collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let mut segments: Vec<Segment<'_>> = chosen.iter_mut().map(|(text, _)| text.sequence.segment()).collect();
        let logits = model.forward_batch(workspace, &mut segments)?;
        let mut emitted = Vec::with_capacity(chosen.len());
        for (index, (text, _)) in chosen.iter_mut().enumerate() {
            let before = text.tokens().len();
            text.sequence.absorb(logits.of(index), model.eos_token_ids());
            emitted.push(text.tokens().len() - before);
        }
        self.learn(&mut chosen, &emitted, begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Rows for the known token and the guesses of each text.
    fn rows(&self, texts: &mut [&mut Text]) -> Vec<usize> {
        let most = most_rows(texts.len());
        let Some(pace) = &self.options.pace else {
            let rows = |text: &&mut Text| text.sequence.fixed_rows().unwrap_or(text.sequence.rows_limit().min(most));
            return texts.iter().map(rows).collect();
        };
        let mut rows: Vec<usize> = texts.iter().map(|text| text.sequence.fixed_rows().unwrap_or(1)).collect();
        let has_choice = |text: &Text| text.sequence.is_prefilled() && text.sequence.fixed_rows().is_none();
        let decoding = texts.iter_mut().enumerate().filter(|(_, text)| has_choice(text));
        let (indices, mut turns): (Vec<usize>, Vec<Turn<'_>>) = decoding
            .map(|(index, text)| {
                let (limit, context) = (text.sequence.rows_limit().min(most), text.sequence.context());
                (index, Turn { pace: &mut text.pace, basis: text.sequence.basis(), limit, context })
            })
            .unzip();
        for (index, chosen) in indices.into_iter().zip(pace.rows(&mut turns)) {
            rows[index] = chosen;
        }
        rows
    }

    /// Lets texts that have not begun begin with what is remembered.
    fn recall(&mut self, texts: &mut [&mut Text]) {
        for text in texts.iter_mut().filter(|text| !text.has_begun) {
            let known = text.sequence.known();
            // the last known token is always computed: it finds the next
            let (pages, len) = self.prefixes.look_up(&known[..known.len() - 1]);
            text.sequence.cache_mut().clear();
            text.sequence.cache_mut().adopt(pages, len);
        }
    }

    /// Plans so many known tokens and rows for each text, and makes sure that there is memory for them: first of what is remembered, then
    /// of younger texts. Who finds none waits, as does who would begin with too little.
    fn make_room(&mut self, texts: &mut [&mut Text], rows: &[usize], known: &mut [usize]) -> Result<(), DecodeError> {
        for index in 0..texts.len() {
            let may_go_on = index == 0 || texts[index].has_begun || self.has_room_to_begin(texts[index]);
            if known[index] == 0 || !may_go_on {
                known[index] = 0;
                if !texts[index].has_begun {
                    texts[index].preempt();
                }
                continue;
            }
            self.begin(texts[index]);
            texts[index].sequence.plan(known[index], rows[index]);
            while let Err(error) = texts[index].sequence.reserve() {
                let ForwardError::KvMemory(_) = error else { return Err(error.into()) };
                if self.prefixes.forget_one() {
                    continue;
                }
                let younger = texts[index + 1..].iter_mut().zip(&mut known[index + 1..]).rev();
                match younger.into_iter().find(|(text, _)| text.sequence.cache().page_count() > 0) {
                    Some((text, known)) => {
                        self.counters.preemptions += u64::from(text.has_begun);
                        text.preempt();
                        *known = 0;
                    }
                    None if index == 0 => return Err(error.into()),
                    None => {
                        known[index] = 0;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts a text that begins, or comes back.
    fn begin(&mut self, text: &mut Text) {
        if !text.has_begun {
            text.has_begun = true;
            self.counters.asked_tokens += text.sequence.known().len() as u64;
            self.counters.remembered_tokens += text.sequence.cache().len() as u64;
        }
    }

    /// Whether a text that has not begun would get through its known tokens without taking memory from others.
    fn has_room_to_begin(&self, text: &Text) -> bool {
        let (known, shared) = (text.sequence.known().len(), text.sequence.cache().len() / PAGE);
        let needed = (known + 1).div_ceil(PAGE) - shared;
        let free = self.pool.pages().saturating_sub(self.pool.used_pages());
        needed <= free.saturating_add(self.prefixes.evictable())
    }

    /// Counts what a forward brought.
    fn learn(&mut self, chosen: &mut [(&mut Text, Need)], emitted: &[usize], seconds: f64) {
        self.counters.forwards += 1;
        for (text, need) in chosen.iter_mut() {
            text.sequence.took(need.decodes, seconds);
            if self.options.prefix_cache && !need.decodes && text.sequence.is_prefilled() {
                let cache = text.sequence.cache();
                let whole = cache.len() / PAGE;
                self.prefixes.insert(&text.sequence.known()[..whole * PAGE], &cache.pages()[..whole]);
            }
        }
        let Some(pace) = &mut self.options.pace else { return };
        let mut all = (0, 0);
        for ((text, need), &emitted) in chosen.iter_mut().zip(emitted) {
            all = (all.0 + need.rows, all.1 + need.rows * text.sequence.context());
            if need.only_decodes() {
                pace.emitted(&mut text.pace, need.rows, emitted);
            }
            if let Some(verdict) = text.sequence.verdict() {
                pace.judged(&mut text.pace, verdict);
            }
        }
        if chosen.iter().all(|(_, need)| need.only_decodes()) {
            pace.took(all.0, all.1, seconds);
        }
    }
}
