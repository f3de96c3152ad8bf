//! Data sets: JSONL, gzipped or with zstandard, or Parquet; one file or a folder of them. Reads and checks records, makes tokens of
//! them; which of them a step sees is decided elsewhere.

mod bad_records;
mod files;
mod record;
mod tokenized;

use std::path::{Path, PathBuf};

use cllm_engine::tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::{Value, json};

use bad_records::BadRecords;
pub(crate) use files::files;
use record::Content;
pub(crate) use tokenized::tokenize_all;
pub use tokenized::{TokenizedExample, tokenized};

use crate::failure::{Failure, Result};

/// A prompt and what should follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Text before the answer.
    pub prompt: String,
    /// The reference answer, without an end marker.
    pub completion: String,
}

/// How records are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct RecordArguments {
    /// See [`Fields`].
    #[command(flatten)]
    pub fields: Fields,
    /// Records that may be unreadable; they are left out, counted and named. With more of them nothing begins.
    #[arg(long, default_value_t = 0)]
    pub max_bad_records: usize,
}

/// What a stage reads.
#[derive(Clone, Debug, clap::Args)]
pub struct DatasetArguments {
    /// JSONL (.gz, .zst) or Parquet with prompts and completions, or with messages.
    #[arg(long)]
    pub dataset: PathBuf,
    /// See [`RecordArguments`].
    #[command(flatten)]
    pub records: RecordArguments,
}

impl DatasetArguments {
    /// All examples with their numbers; see [`read`].
    pub(crate) fn read(&self, tokenizer: &Tokenizer) -> Result<Vec<(u32, Example)>> {
        read(&self.dataset, tokenizer, &self.records, None)
    }
}

const PROMPT: &str = "prompt";
const COMPLETION: &str = "completion";
const MESSAGES: &str = "messages";

/// What the fields of a record are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, clap::Args)]
pub struct Fields {
    /// The field with the prompt.
    #[arg(long, default_value = PROMPT)]
    pub prompt_field: String,
    /// The field with the completion.
    #[arg(long, default_value = COMPLETION)]
    pub completion_field: String,
    /// The field with the messages of a chat, where there is no prompt.
    #[arg(long, default_value = MESSAGES)]
    pub messages_field: String,
}

impl Fields {
    /// Adds them to what decides over a result. Absent where they are usual: runs that began before there was a choice go on.
    pub(crate) fn note(&self, settings: &mut Value) {
        if *self != Self::default() {
            settings["fields"] = json!(self);
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        let [prompt_field, completion_field, messages_field] = [PROMPT, COMPLETION, MESSAGES].map(str::to_owned);
        Self { prompt_field, completion_field, messages_field }
    }
}

/// Reads the first `limit` examples of a data set with their numbers, from 0, among all its records. `tokenizer` renders messages by
/// its template.
pub fn read(
    path: &Path,
    tokenizer: &Tokenizer,
    arguments: &RecordArguments,
    limit: Option<usize>,
) -> Result<Vec<(u32, Example)>> {
    let mut examples = Vec::new();
    let limit = limit.unwrap_or(usize::MAX);
    let parse = |content: Content| content.example(tokenizer);
    for_each(path, arguments, parse, |number, example| {
        examples.push((number, example));
        Ok(examples.len() < limit)
    })?;
    Ok(examples)
}

/// The texts of a data set, before there is a tokenizer: prompt and completion, or the contents of the messages.
pub fn read_texts(path: &Path, arguments: &RecordArguments) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for_each(
        path,
        arguments,
        |content| Ok(content.texts()),
        |_, of_record| {
            texts.extend(of_record);
            Ok(true)
        },
    )?;
    Ok(texts)
}

/// Calls `visit` with number and content of every good record until it answers `false`.
fn for_each<T>(
    path: &Path,
    arguments: &RecordArguments,
    parse: impl Fn(Content) -> std::result::Result<T, String>,
    mut visit: impl FnMut(u32, T) -> Result<bool>,
) -> Result<()> {
    let (mut bad, mut number, mut good) = (BadRecords::new(arguments.max_bad_records), 0, 0_usize);
    files::for_each_record(path, &mut |file, place, record| {
        let parsed = record.and_then(|record| Content::find(record, &arguments.fields)).and_then(&parse);
        let goes_on = match parsed {
            Ok(content) => {
                good += 1;
                visit(number, content)?
            }
            Err(problem) => {
                bad.note(file, place, &problem)?;
                true
            }
        };
        number += 1;
        Ok(goes_on)
    })?;
    bad.report(path);
    if good == 0 {
        return Err(Failure::BadInput(format!("{} holds no examples: give a file with at least one", path.display())));
    }
    Ok(())
}
