//! Examples as tokens, made by several threads while the file is read; their texts are not kept.

use std::path::Path;

use cllm_engine::Checkpoint;
use cllm_engine::tokenizer::Tokenizer;

use super::record::Content;
use super::{Example, RecordArguments, for_each};
use crate::failure::{Failure, Result};
use crate::model_folder;

/// Examples that are read before they are made tokens of.
const CHUNK: usize = 8192;

/// An example as token ids: `encode(prompt) ++ encode(completion) ++ [eos]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedExample {
    /// Everything.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt.
    pub prompt_len: usize,
}

/// The first `limit` examples of a data set as tokens. Those that do not fit the context of the model are left out, and counted in a
/// warning.
pub fn tokenized(
    path: &Path,
    checkpoint: &Checkpoint,
    arguments: &RecordArguments,
    limit: Option<usize>,
    threads: usize,
) -> Result<Vec<TokenizedExample>> {
    let (tokenizer, eos) = (checkpoint.tokenizer(), model_folder::eos(checkpoint)?);
    let limit = limit.unwrap_or(usize::MAX);
    let (mut chunk, mut seen, mut tokenized) = (Vec::new(), 0, Vec::new());
    for_each(
        path,
        arguments,
        |content: Content| content.example(tokenizer),
        |_, example| {
            chunk.push(example);
            seen += 1;
            if chunk.len() == CHUNK {
                tokenized.extend(tokenize_all(&chunk, tokenizer, eos, threads)?);
                chunk.clear();
            }
            Ok(seen < limit)
        },
    )?;
    tokenized.extend(tokenize_all(&chunk, tokenizer, eos, threads)?);
    fitting(tokenized, checkpoint.config().max_position_embeddings, path)
}

fn fitting(mut examples: Vec<TokenizedExample>, context: usize, path: &Path) -> Result<Vec<TokenizedExample>> {
    let (total, path) = (examples.len(), path.display());
    examples.retain(|example| example.tokens.len() <= context);
    if examples.is_empty() {
        return Err(Failure::BadInput(format!("no example of {path} fits the model's context of {context} tokens")));
    }
    if examples.len() < total {
        let longer = total - examples.len();
        tracing::warn!("{longer} of {total} examples of {path} exceed {context} tokens and are left out");
    }
    Ok(examples)
}

/// Examples as tokens, made by `threads` threads.
pub(crate) fn tokenize_all(
    examples: &[Example],
    tokenizer: &Tokenizer,
    eos: u32,
    threads: usize,
) -> Result<Vec<TokenizedExample>> {
    let share = examples.len().div_ceil(threads.max(1)).max(1);
    let encode = |part: &[Example]| -> Result<Vec<TokenizedExample>> {
        part.iter().map(|example| tokenize(example, tokenizer, eos)).collect()
    };
    let parts = std::thread::scope(|scope| {
        let workers: Vec<_> = examples.chunks(share).map(|part| scope.spawn(move || encode(part))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Failure::engine("tokenisation failed"))))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(parts.concat())
}

fn tokenize(example: &Example, tokenizer: &Tokenizer, eos: u32) -> Result<TokenizedExample> {
    let mut tokens = tokenizer.encode(&example.prompt).map_err(Failure::engine)?;
    let prompt_len = tokens.len();
    tokens.extend(tokenizer.encode_without_special_tokens(&example.completion).map_err(Failure::engine)?);
    tokens.push(eos);
    Ok(TokenizedExample { tokens, prompt_len })
}
