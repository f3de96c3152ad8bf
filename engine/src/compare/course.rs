//! One way on its way through some prompts: it can stop between any two forwards, for another to go on.

use std::time::Instant;

use super::{Round, Way};
use crate::batch::{Batch, BatchOptions, Text};
use crate::decode::adaptive::Pace;
use crate::decode::{DecodeError, DecodeOptions, Generation, Sampling};
use crate::model::{KvPool, Model, Workspace};

/// The prompts of a round, decoded in one way, and the wall time that it took so far.
pub(super) struct Course {
    batch: Batch,
    texts: Vec<Text>,
    at_once: usize,
    prefill_seconds: f64,
    decode_seconds: f64,
}

impl Course {
    /// Computes nothing yet.
    pub(super) fn start(way: &Way, model: &Model, round: Round<'_>) -> Result<Self, DecodeError> {
        let max_new_tokens = round.max_new_tokens;
        let options = DecodeOptions { strategy: way.strategy, max_new_tokens, stop_at_eos: true };
        let pool = KvPool::unbounded(model);
        let mut batch = Batch::new(pool, BatchOptions { pace: way.pace.clone(), prefix_cache: false });
        let texts = round.prompts.iter().map(|prompt| batch.start(model, prompt, options, Sampling::default()));
        let texts = texts.collect::<Result<_, _>>()?;
        Ok(Self { batch, texts, at_once: round.at_once.max(1), prefill_seconds: 0.0, decode_seconds: 0.0 })
    }

    /// Prefills all prompts.
    pub(super) fn prefill(&mut self, model: &Model, workspace: &mut Workspace) -> Result<(), DecodeError> {
        self.prefill_seconds += self.step_until(model, workspace, usize::MAX, Text::is_prefilled)?;
        Ok(())
    }

    /// At most so many forwards more.
    pub(super) fn go_on(
        &mut self,
        model: &Model,
        workspace: &mut Workspace,
        forwards: usize,
    ) -> Result<(), DecodeError> {
        self.decode_seconds += self.step_until(model, workspace, forwards, has_ended)?;
        Ok(())
    }

    /// Tokens of all texts so far.
    pub(super) fn tokens(&self) -> usize {
        self.texts.iter().map(|text| text.tokens().len()).sum()
    }

    /// Whether all texts have ended.
    pub(super) fn is_done(&self) -> bool {
        self.texts.iter().all(has_ended)
    }

    /// What it learned, and the texts that ended. The seconds of each are its share of the wall time, so that sums are wall time.
    pub(super) fn into_parts(self) -> (Option<Pace>, Vec<Generation>) {
        let of_all = self.texts.len() as f64;
        let share = |mut generation: Generation| {
            generation.statistics.prefill_seconds = self.prefill_seconds / of_all;
            generation.statistics.decode_seconds = self.decode_seconds / of_all;
            generation
        };
        let generations = self.texts.into_iter().filter_map(Text::into_generation).map(share).collect();
        (self.batch.into_pace(), generations)
    }

    /// Seconds of forwards, at most so many, for the first texts that are not done.
    fn step_until(
        &mut self,
        model: &Model,
        workspace: &mut Workspace,
        forwards: usize,
        done: fn(&Text) -> bool,
    ) -> Result<f64, DecodeError> {
        let begin = Instant::now();
        for _ in 0..forwards {
            let left = self.texts.iter_mut().filter(|text| !done(text));
            let mut left: Vec<&mut Text> = left.take(self.at_once).collect();
            if left.is_empty() {
                break;
            }
            self.batch.step(model, workspace, &mut left)?;
        }
        Ok(begin.elapsed().as_secs_f64())
    }
}

fn has_ended(text: &Text) -> bool {
    text.finish_reason().is_some()
}
