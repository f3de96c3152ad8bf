//! Ways of decoding compared on one model: the same prompts in turns, one run, the tokens checked to be the same.
//!
//! What a speed-up is: tokens per second after the prefill over those of autoregressive decoding. End to end the prefill (and the
//! tokenization) is on both sides.

mod prompts;
mod totals;

use thiserror::Error;

pub use prompts::prompt_tokens;
pub use totals::DecodeTotals;

use crate::decode::{DecodeError, DecodeOptions, Generation, Strategy, generate};
use crate::model::{Model, Workspace};

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
/// come in the order of `strategies`.
pub fn decode_in_turns(
    model: &Model,
    workspace: &mut Workspace,
    strategies: &[Strategy],
    prompt: &[u32],
    max_new_tokens: usize,
    turn: usize,
) -> Result<Vec<Generation>, CompareError> {
    let mut generations: Vec<Option<Generation>> = vec![None; strategies.len()];
    for offset in 0..strategies.len() {
        let index = (turn + offset) % strategies.len();
        let options = DecodeOptions { strategy: strategies[index], max_new_tokens, stop_at_eos: true };
        generations[index] = Some(generate(model, workspace, prompt, options)?);
    }
    let generations: Vec<Generation> = generations.into_iter().flatten().collect();
    check(strategies, &generations)?;
    Ok(generations)
}

fn check(strategies: &[Strategy], generations: &[Generation]) -> Result<(), CompareError> {
    let Some((first, others)) = generations.split_first() else { return Ok(()) };
    match others.iter().position(|other| other.tokens != first.tokens) {
        None => Ok(()),
        Some(index) => Err(CompareError::Differs { reference: strategies[0], strategy: strategies[index + 1] }),
    }
}
