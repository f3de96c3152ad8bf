//! Ways of decoding compared on one model: the same prompts in turns, one run, the tokens checked to be the same where the model is exact.
//!
//! What a speed-up is: tokens per second after the prefill over those of autoregressive decoding. End to end the prefill (and the
//! tokenization) is on both sides. Prompts that are decoded at the same time have all been prefilled before the first of them goes on.

mod prompts;
mod totals;

use std::time::Instant;

use thiserror::Error;

pub use prompts::prompt_tokens;
pub use totals::DecodeTotals;

use crate::batch::{Batch, BatchOptions, Text};
use crate::decode::adaptive::Pace;
use crate::decode::{DecodeError, DecodeOptions, Generation, Sampling, Strategy};
use crate::model::{KvPool, Model, Workspace};

/// A way of decoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// How tokens are found.
    pub strategy: Strategy,
    /// Where forwards have as many rows as pay, at most those of the strategy. It learns from every prompt.
    pub pace: Option<Pace>,
}

impl From<Strategy> for Way {
    /// All rows of the strategy, always.
    fn from(strategy: Strategy) -> Self {
        Self { strategy, pace: None }
    }
}

impl Way {
    /// Decodes prompts at the same time. The seconds of each are its share of the wall time, so that sums are wall time.
    fn decode(
        &mut self,
        model: &Model,
        workspace: &mut Workspace,
        prompts: &[&[u32]],
        max_new_tokens: usize,
    ) -> Result<Vec<Generation>, DecodeError> {
        let options = DecodeOptions { strategy: self.strategy, max_new_tokens, stop_at_eos: true };
        let pool = KvPool::unbounded(model);
        let mut batch = Batch::new(pool, BatchOptions { pace: self.pace.clone(), prefix_cache: false });
        let started = prompts.iter().map(|prompt| batch.start(model, prompt, options, Sampling::default()));
        let mut texts = started.collect::<Result<Vec<_>, _>>()?;
        let mut seconds_until = |done: fn(&Text) -> bool| {
            let begin = Instant::now();
            loop {
                let mut left: Vec<&mut Text> = texts.iter_mut().filter(|text| !done(text)).collect();
                if left.is_empty() {
                    return Ok::<_, DecodeError>(begin.elapsed().as_secs_f64());
                }
                batch.step(model, workspace, &mut left)?;
            }
        };
        let prefill = seconds_until(Text::is_prefilled)?;
        let decode = seconds_until(|text| text.finish_reason().is_some())?;
        self.pace = batch.into_pace();
        let share = |mut generation: Generation| {
            generation.statistics.prefill_seconds = prefill / prompts.len() as f64;
            generation.statistics.decode_seconds = decode / prompts.len() as f64;
            generation
        };
        Ok(texts.into_iter().filter_map(Text::into_generation).map(share).collect())
    }
}

/// Why a comparison says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompareError {
    /// The prompt cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The one thing that must never happen.
    #[error(
        "{strategy:?} gave other tokens than {reference:?}; they must be equal, so please report this with the checkpoint and the prompt"
    )]
    Differs {
        /// What was decoded first.
        reference: Strategy,
        /// What differs from it.
        strategy: Strategy,
    },
}

/// Decodes prompts, at the same time, in every way. The first way changes from turn to turn, since a way may be slower after another
/// one. For each of `ways`, in their order, the generations of the prompts: the same tokens where [`Model::is_exact`].
pub fn decode_in_turns(
    model: &Model,
    workspace: &mut Workspace,
    ways: &mut [Way],
    prompts: &[&[u32]],
    max_new_tokens: usize,
    turn: usize,
) -> Result<Vec<Vec<Generation>>, CompareError> {
    let mut generations: Vec<Vec<Generation>> = vec![Vec::new(); ways.len()];
    for offset in 0..ways.len() {
        let index = (turn + offset) % ways.len();
        generations[index] = ways[index].decode(model, workspace, prompts, max_new_tokens)?;
    }
    if model.is_exact() {
        check(ways, &generations)?;
    }
    Ok(generations)
}

fn check(ways: &[Way], generations: &[Vec<Generation>]) -> Result<(), CompareError> {
    let Some((first, others)) = generations.split_first() else { return Ok(()) };
    let differs = |other: &Vec<Generation>| other.iter().zip(first).any(|(a, b)| a.tokens != b.tokens);
    match others.iter().position(differs) {
        None => Ok(()),
        Some(index) => Err(CompareError::Differs { reference: ways[0].strategy, strategy: ways[index + 1].strategy }),
    }
}
