//! Decodes prompts on several threads, on each of them many at the same time.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cllm_engine::batch::{Batch, BatchOptions, Text};
use cllm_engine::{DecodeOptions, KvPool, Model, Strategy, Workspace};
use rand::Rng;

use super::division::Division;
use crate::data_order::random;
use crate::failure::{Failure, Result};
use crate::trajectories::{DropReason, Outcome, TrajectoryExample, judge};

/// A prompt of the data set.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    /// Its line, from 0.
    pub(super) index: u32,
    pub(super) tokens: Vec<u32>,
    pub(super) answer: Answer,
}

/// What follows a prompt.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// What the model says, with so many tokens at most.
    Own(NonZeroUsize),
    /// These tokens, whatever it would say.
    Given(Vec<u32>),
}

/// What is decoded, and how.
#[derive(Debug)]
pub(super) struct Decoding<'a> {
    pub(super) model: &'a Model,
    pub(super) division: Division,
    /// In the order in which they are begun.
    pub(super) prompts: &'a [&'a Prompt],
    pub(super) block_size: NonZeroUsize,
    /// Decides where blocks begin.
    pub(super) seed: u64,
    /// Becomes true when all shall stop.
    pub(super) interruption: Arc<AtomicBool>,
}

impl Decoding<'_> {
    /// Decodes all prompts; `taker` gets what becomes of each as soon as it has ended. What a text becomes depends neither on the others
    /// nor on threads.
    pub(super) fn run(&self, taker: &mut dyn Taker) -> Result<()> {
        let shared =
            Shared { next: AtomicUsize::new(0), is_given_up: AtomicBool::new(false), taker: Mutex::new(taker) };
        let work = || {
            let outcome = self.work(&shared);
            if outcome.is_err() {
                shared.is_given_up.store(true, Ordering::Relaxed);
            }
            outcome
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..self.division.workers).map(|_| scope.spawn(work)).collect();
            let own = work();
            others.into_iter().fold(own, |outcome, other| {
                outcome.and(other.join().unwrap_or_else(|_| Err(Failure::engine("a worker failed"))))
            })
        })
    }

    /// One worker, until no prompt is left or somebody has given up.
    fn work(&self, shared: &Shared<'_>) -> Result<()> {
        let pool = KvPool::new(self.model, self.division.pages * KvPool::PAGE);
        let mut batch = Batch::new(pool, BatchOptions { pace: None, prefix_cache: true });
        let mut workspace = Workspace::new(self.model);
        let mut running: Vec<(&Prompt, Text)> = Vec::new();
        loop {
            while running.len() < self.division.texts
                && let Some(prompt) = self.next_prompt(shared)
            {
                match self.start(&mut batch, prompt)? {
                    Some(text) => running.push((prompt, text)),
                    None => shared.add(Outcome::Dropped { index: prompt.index, reason: DropReason::TooLong }, 0)?,
                }
            }
            if running.is_empty() || shared.is_given_up.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.interruption.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            let mut texts: Vec<&mut Text> = running.iter_mut().map(|(_, text)| text).collect();
            batch.step(self.model, &mut workspace, &mut texts).map_err(Failure::engine)?;
            for (prompt, text) in running.extract_if(.., |(_, text)| text.finish_reason().is_some()) {
                let generated = text.tokens().len();
                shared.add(self.outcome(prompt, text)?, generated)?;
            }
        }
    }

    fn next_prompt(&self, shared: &Shared<'_>) -> Option<&Prompt> {
        self.prompts.get(shared.next.fetch_add(1, Ordering::Relaxed)).copied()
    }

    /// None for a prompt that does not fit the context.
    fn start(&self, batch: &mut Batch, prompt: &Prompt) -> Result<Option<Text>> {
        if !fits(&prompt.tokens, self.model.config().max_position_embeddings) {
            return Ok(None);
        }
        let strategy = Strategy::Jacobi { block_size: self.block_size, lookup: false };
        let first = random(self.seed, "block", u64::from(prompt.index)).random_range(1..=self.block_size.get());
        let first = NonZeroUsize::new(first).unwrap_or(NonZeroUsize::MIN);
        let text = match &prompt.answer {
            Answer::Own(at_most) => {
                let options = DecodeOptions { strategy, max_new_tokens: at_most.get(), stop_at_eos: true };
                batch.start_in_blocks(self.model, &prompt.tokens, options, first)
            }
            Answer::Given(answer) => batch.start_towards(self.model, &prompt.tokens, answer, strategy, first),
        };
        text.map(Some).map_err(Failure::engine)
    }

    /// What became of a prompt whose text has ended.
    fn outcome(&self, prompt: &Prompt, text: Text) -> Result<Outcome> {
        let index = prompt.index;
        if let Some(reason) = judge(text.tokens(), self.model.eos_token_ids()) {
            return Ok(Outcome::Dropped { index, reason });
        }
        let ended = text.into_trajectories();
        let (generation, blocks) = ended.ok_or_else(|| Failure::engine("a text that has ended goes on"))?;
        let tokens = [&prompt.tokens[..], &generation.tokens].concat();
        let example = TrajectoryExample { index, tokens, prompt_len: prompt.tokens.len(), blocks };
        Ok(Outcome::Kept { example, forwards: generation.statistics.decode_forwards as u32 })
    }
}

/// Whether there is room for a prompt and something after it.
pub(super) fn fits(prompt: &[u32], context: usize) -> bool {
    (1..context).contains(&prompt.len())
}

/// Takes what becomes of prompts.
pub(super) trait Taker: Send {
    /// Takes what became of one, and the number of tokens that were generated for it.
    fn add(&mut self, outcome: Outcome, generated: usize) -> Result<()>;
}

impl Taker for Vec<Outcome> {
    fn add(&mut self, outcome: Outcome, _generated: usize) -> Result<()> {
        self.push(outcome);
        Ok(())
    }
}

/// What the workers have in common.
struct Shared<'s> {
    /// Of the prompts.
    next: AtomicUsize,
    is_given_up: AtomicBool,
    taker: Mutex<&'s mut dyn Taker>,
}

impl Shared<'_> {
    fn add(&self, outcome: Outcome, generated: usize) -> Result<()> {
        self.taker.lock().map_err(Failure::engine)?.add(outcome, generated)
    }
}
