//! Prompts from JSON lines, as tokens. A line has `prompt`, or `messages` whose last answer is left out.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use cllm_engine::Tokenizer;
use cllm_engine::compare::prompt_tokens;
use flate2::read::MultiGzDecoder;

use super::BenchError;

/// A prompt.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    /// From 1.
    pub(super) line: usize,
    pub(super) tokens: Vec<u32>,
    pub(super) tokenization_seconds: f64,
}

/// Reads at most `limit` prompts; at least one.
pub(super) fn read(path: &Path, limit: Option<u64>, tokenizer: &Tokenizer) -> Result<Vec<Prompt>, BenchError> {
    let refused = |line: Option<usize>, problem: String| BenchError::Prompts { path: path.to_owned(), line, problem };
    let file = File::open(path)
        .map_err(|error| refused(None, format!("{error}; give a file of JSON lines with a \"prompt\" each")))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut prompts = Vec::new();
    for (index, text) in BufReader::new(reader).lines().enumerate() {
        if limit.is_some_and(|limit| prompts.len() as u64 >= limit) {
            break;
        }
        let line = Some(index + 1);
        let text = text.map_err(|error| refused(line, error.to_string()))?;
        if !text.trim().is_empty() {
            prompts.push(prompt(index + 1, &text, tokenizer).map_err(|problem| refused(line, problem))?);
        }
    }
    if prompts.is_empty() { Err(refused(None, "it has no prompts".to_owned())) } else { Ok(prompts) }
}

fn prompt(line: usize, text: &str, tokenizer: &Tokenizer) -> Result<Prompt, String> {
    let begin = Instant::now();
    let tokens = prompt_tokens(tokenizer, text)?;
    Ok(Prompt { line, tokens, tokenization_seconds: begin.elapsed().as_secs_f64() })
}
