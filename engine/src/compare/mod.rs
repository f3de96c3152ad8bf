//! Ways of decoding compared on one model: the same prompts in turns, one run, the tokens checked to be the same.
//!
//! What a speed-up is: tokens per second after the prefill over those of autoregressive decoding. End to end the prefill (and the
//! tokenization) is on both sides.

mod prompts;
mod totals;

use thiserror::Error;

pub use prompts::prompt_tokens;
pub use totals::DecodeTotals;

use crate::decode::adaptive::Pace;
use crate::decode::{DecodeError, DecodeOptions, Generation, Sampling, Strategy, generate, generate_adaptively};
use crate::model::{Model, Workspace};

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
    fn decode(
        &mut self,
        model: &Model,
        workspace: &mut Workspace,
        prompt: &[u32],
        max_new_tokens: usize,
    ) -> Result<Generation, DecodeError> {
        let options = DecodeOptions { strategy: self.strategy, max_new_tokens, stop_at_eos: true };
        match &mut self.pace {
            Some(pace) => generate_adaptively(model, workspace, prompt, options, Sampling::default(), pace),
            None => generate(model, workspace, prompt, options),
        }
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

/// Decodes a prompt in every way. The first of them changes from turn to turn, since a way may be slower after another one. Generations
/// come in the order of `ways`.
pub fn decode_in_turns(
    model: &Model,
    workspace: &mut Workspace,
    ways: &mut [Way],
    prompt: &[u32],
    max_new_tokens: usize,
    turn: usize,
) -> Result<Vec<Generation>, CompareError> {
    let mut generations: Vec<Option<Generation>> = vec![None; ways.len()];
    for offset in 0..ways.len() {
        let index = (turn + offset) % ways.len();
        generations[index] = Some(ways[index].decode(model, workspace, prompt, max_new_tokens)?);
    }
    let generations: Vec<Generation> = generations.into_iter().flatten().collect();
    check(ways, &generations)?;
    Ok(generations)
}

fn check(ways: &[Way], generations: &[Generation]) -> Result<(), CompareError> {
    let Some((first, others)) = generations.split_first() else { return Ok(()) };
    match others.iter().position(|other| other.tokens != first.tokens) {
        None => Ok(()),
        Some(index) => Err(CompareError::Differs { reference: ways[0].strategy, strategy: ways[index + 1].strategy }),
    }
}
