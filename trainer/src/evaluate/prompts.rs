//! The prompts of an evaluation: chosen by the seed, made tokens of once for all passes.

use std::time::Instant;

use cllm_engine::Checkpoint;
use rand::seq::SliceRandom;

use super::run::EvaluateArguments;
use crate::data;
use crate::data_order::random;
use crate::failure::{Failure, Result};

/// A held-out example, ready to be decoded.
#[derive(Debug)]
pub(super) struct Prompt {
    /// Of its record in the data set, from 0.
    pub index: u32,
    /// The tokens of the prompt.
    pub tokens: Vec<u32>,
    /// What making them took: a part of end-to-end times, the same for all ways of decoding.
    pub encode_seconds: f64,
    /// The text of the right answer.
    pub reference: String,
}

/// Examples chosen by the seed, in a random order; those that do not fit the context are left out.
pub(super) fn choose(arguments: &EvaluateArguments, target: &Checkpoint) -> Result<Vec<Prompt>> {
    let mut examples = arguments.data.read(target.tokenizer())?;
    examples.shuffle(&mut random(arguments.seed, "evaluate", 0));
    examples.truncate(arguments.prompts.get());
    let (total, context) = (examples.len(), target.config().max_position_embeddings);
    let encode = |(index, example): (u32, data::Example)| {
        let begun = Instant::now();
        let tokens = target.tokenizer().encode(&example.prompt).ok()?;
        let encode_seconds = begun.elapsed().as_secs_f64();
        let fits = !tokens.is_empty() && tokens.len() < context;
        fits.then_some(Prompt { index, tokens, encode_seconds, reference: example.completion })
    };
    let prompts: Vec<Prompt> = examples.into_iter().filter_map(encode).collect();
    match prompts.len() {
        0 => Err(Failure::BadInput(format!(
            "no prompt of {} fits the context of {context} tokens",
            arguments.data.dataset.display()
        ))),
        kept => {
            if kept < total {
                let longer = total - kept;
                tracing::warn!("{longer} of {total} prompts exceed the context of {context} tokens and are left out");
            }
            Ok(prompts)
        }
    }
}
