//! Decoding, one token a forward or several by Jacobi iteration: the same tokens either way.
//!
//! [`accept`] and [`guesses`] decide, purely; [`Sequence`] runs the model.

mod accept;
pub mod adaptive;
mod guesses;
mod sampling;
mod sequence;
mod statistics;
mod trajectory;

use std::num::NonZeroUsize;

use thiserror::Error;

pub use sampling::{Sampling, SamplingError};
pub use sequence::Sequence;
pub use statistics::Statistics;
pub use trajectory::{JacobiTrajectory, generate_with_trajectories};

use crate::model::{ForwardError, Model, Workspace};

/// How tokens are found. It decides how many forwards they take, never which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// One token a forward.
    Autoregressive,
    /// Each forward checks guesses for the next tokens.
    Jacobi {
        /// Rows of a forward: the known token and guesses for those after it. 1 is autoregressive.
        block_size: NonZeroUsize,
        /// Whether text that repeats the prompt or the output is guessed by looking it up.
        lookup: bool,
    },
}

impl Strategy {
    fn block_size(self) -> usize {
        match self {
            Self::Autoregressive => 1,
            Self::Jacobi { block_size, .. } => block_size.get(),
        }
    }

    fn lookup(self) -> bool {
        matches!(self, Self::Jacobi { lookup: true, .. })
    }
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// How tokens are found.
    pub strategy: Strategy,
    /// Most tokens to generate, EOS included. The context of the model may end a text earlier.
    pub max_new_tokens: usize,
    /// Whether a text ends at the tokens that the checkpoint names as EOS. They are part of the output.
    pub stop_at_eos: bool,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model said EOS.
    Stop,
    /// `max_new_tokens` or the context of the model was reached.
    Length,
}

/// A finished text.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Generated tokens, EOS included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it took.
    pub statistics: Statistics,
}

/// Why a sequence could not be started or continued.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A model continues something.
    #[error("the prompt is empty; it needs at least one token")]
    EmptyPrompt,
    /// No room for the prompt and one generated token.
    #[error(
        "the prompt has {prompt} tokens, but the context of the model is {context} tokens, at least one of them generated; shorten the prompt"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Positions of the model.
        context: usize,
    },
    /// Nothing was asked for.
    #[error("max_new_tokens is 0; ask for at least one token")]
    NothingToGenerate,
    /// A value that sampling cannot work with.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The model refused a forward: a token outside its vocabulary.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Decodes a prompt to its end, always with the most likely token.
pub fn generate(
    model: &Model,
    workspace: &mut Workspace,
    prompt: &[u32],
    options: DecodeOptions,
) -> Result<Generation, DecodeError> {
    generate_sampled(model, workspace, prompt, options, Sampling::default())
}

/// Decodes a prompt to its end, drawing tokens as `sampling` says.
pub fn generate_sampled(
    model: &Model,
    workspace: &mut Workspace,
    prompt: &[u32],
    options: DecodeOptions,
    sampling: Sampling,
) -> Result<Generation, DecodeError> {
    let mut sequence = Sequence::start_sampled(model, prompt, options, sampling)?;
    loop {
        sequence.step(model, workspace)?;
        if let Some(finish_reason) = sequence.finish_reason() {
            let (tokens, statistics) = sequence.into_parts();
            return Ok(Generation { tokens, finish_reason, statistics });
        }
    }
}

/// Refuses a prompt that cannot be decoded. Returns the most tokens that can be generated.
fn check_prompt(model: &Model, prompt: &[u32], options: DecodeOptions) -> Result<usize, DecodeError> {
    let context = model.config().max_position_embeddings;
    if prompt.is_empty() {
        return Err(DecodeError::EmptyPrompt);
    }
    model.check_tokens(prompt)?;
    if prompt.len() >= context {
        return Err(DecodeError::PromptTooLong { prompt: prompt.len(), context });
    }
    if options.max_new_tokens == 0 {
        return Err(DecodeError::NothingToGenerate);
    }
    Ok(options.max_new_tokens.min(context - prompt.len()))
}

/// The part of newly found tokens that belongs to the text, and why the text ends with it, if it does.
fn cut_at_end(found: &[u32], left: usize, eos: &[u32]) -> (usize, Option<FinishReason>) {
    match found.iter().take(left).position(|token| eos.contains(token)) {
        Some(index) => (index + 1, Some(FinishReason::Stop)),
        None if found.len() >= left => (left, Some(FinishReason::Length)),
        None => (found.len(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::{FinishReason, cut_at_end};

    #[test]
    fn a_text_ends_at_the_first_eos_or_at_the_limit() {
        use FinishReason::{Length, Stop};
        for (found, left, expected) in [
            (&[5, 6][..], 9, (2, None)),
            (&[5, 6], 2, (2, Some(Length))),
            (&[5, 6, 7], 2, (2, Some(Length))),
            (&[5, 1, 7], 9, (2, Some(Stop))),
            (&[5, 1], 2, (2, Some(Stop))),
            (&[5, 6, 1], 2, (2, Some(Length))),
            (&[2, 1], 9, (1, Some(Stop))),
        ] {
            assert_eq!(cut_at_end(found, left, &[1, 2]), expected, "{found:?} with {left} left");
        }
    }
}
