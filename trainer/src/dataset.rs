//! Data sets: a JSONL file, or a folder of them, gzipped where the name ends in `.gz`. Reads and checks lines; does not tokenise.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use cllm_engine::tokenizer::{Message, Tokenizer};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::failure::{Failure, Result};

/// A prompt and what should follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Text before the answer; ends with a line break.
    pub prompt: String,
    /// The reference answer, without an end marker.
    pub completion: String,
}

/// An example as token ids: `encode(prompt) ++ encode(completion) ++ [eos]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedExample {
    /// Everything.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt.
    pub prompt_len: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Pair { prompt: String, completion: String },
    Chat { messages: Vec<Message> },
}

/// Reads the first `limit` examples of a file. `tokenizer` renders `{"messages"}` lines by its chat template.
pub fn read(path: &Path, tokenizer: &Tokenizer, limit: Option<usize>) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    for_each_line(path, limit, |file, number, line| {
        examples.push(parse(line, tokenizer).map_err(|problem| bad_line(file, number, &problem))?);
        Ok(())
    })?;
    if examples.is_empty() {
        return Err(Failure::BadInput(format!(
            "{} holds no examples: give a JSONL file with at least one",
            path.display()
        )));
    }
    Ok(examples)
}

/// The texts of a file, before there is a tokenizer: prompt and completion, or the contents of the messages.
pub fn read_texts(path: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for_each_line(path, None, |file, number, line| {
        match serde_json::from_str(line).map_err(|error| bad_line(file, number, &describe(&error)))? {
            Line::Pair { prompt, completion } => texts.extend([prompt, completion]),
            Line::Chat { messages } => texts.extend(messages.into_iter().map(|message| message.content)),
        }
        Ok(())
    })?;
    Ok(texts)
}

/// Token ids of an example.
pub fn tokenize(example: &Example, tokenizer: &Tokenizer, eos: u32) -> Result<TokenizedExample> {
    let mut tokens = tokenizer.encode(&example.prompt).map_err(Failure::engine)?;
    let prompt_len = tokens.len();
    tokens.extend(tokenizer.encode_without_special_tokens(&example.completion).map_err(Failure::engine)?);
    tokens.push(eos);
    Ok(TokenizedExample { tokens, prompt_len })
}

/// The files of a data set, in the order of their names.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(Failure::read(path))? {
        let file = entry.map_err(Failure::read(path))?.path();
        if is_data(&file) {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::BadInput(format!(
            "{} holds no *.jsonl or *.jsonl.gz: name the folder of the data",
            path.display()
        )));
    }
    Ok(files)
}

/// `*.jsonl` or `*.jsonl.gz`, and visible.
fn is_data(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let plain = Path::new(name.strip_suffix(".gz").unwrap_or(&name));
    !name.starts_with('.') && plain.extension().is_some_and(|extension| extension == "jsonl")
}

fn for_each_line(
    path: &Path,
    limit: Option<usize>,
    mut visit: impl FnMut(&Path, usize, &str) -> Result<()>,
) -> Result<()> {
    let mut left = limit.unwrap_or(usize::MAX);
    for file in files(path)? {
        left -= for_each_line_of(&file, left, &mut visit)?;
    }
    Ok(())
}

/// At most `limit` lines of one file; answers how many there were.
fn for_each_line_of(
    path: &Path,
    limit: usize,
    visit: &mut impl FnMut(&Path, usize, &str) -> Result<()>,
) -> Result<usize> {
    let file = File::open(path).map_err(Failure::read(path))?;
    let gzipped = path.extension().is_some_and(|extension| extension == "gz");
    let content: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut seen = 0;
    for (index, line) in BufReader::new(content).lines().enumerate() {
        if seen >= limit {
            break;
        }
        let line = line.map_err(|error| bad_line(path, index + 1, &error.to_string()))?;
        if !line.trim().is_empty() {
            visit(path, index + 1, &line)?;
            seen += 1;
        }
    }
    Ok(seen)
}

fn parse(line: &str, tokenizer: &Tokenizer) -> std::result::Result<Example, String> {
    let example = match serde_json::from_str(line).map_err(|error| describe(&error))? {
        Line::Pair { prompt, completion } => Example { prompt, completion },
        Line::Chat { messages } => from_chat(&messages, tokenizer)?,
    };
    if example.prompt.is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    Ok(example)
}

fn from_chat(messages: &[Message], tokenizer: &Tokenizer) -> std::result::Result<Example, String> {
    match messages.split_last() {
        Some((last, before)) if last.role == "assistant" && !before.is_empty() => Ok(Example {
            prompt: tokenizer.chat_prompt(before).map_err(|error| error.to_string())?,
            completion: last.content.clone(),
        }),
        _ => Err("`messages` must be at least a user's message and end with one whose role is `assistant`".to_owned()),
    }
}

fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            "it is JSON, but not an object with the texts `prompt` and `completion`, or with `messages`".to_owned()
        }
        _ => format!("it is not JSON ({error})"),
    }
}

fn bad_line(path: &Path, number: usize, problem: &str) -> Failure {
    Failure::BadInput(format!("{}, line {number}: {problem}; correct the line or remove it", path.display()))
}
