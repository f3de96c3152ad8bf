//! A data set in numbers, and a few of its examples.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use cllm_engine::Checkpoint;
use rand::seq::IndexedRandom;

use super::{InspectArguments, lengths, row};
use crate::data::{self, Example, tokenize_all};
use crate::data_order::random;
use crate::failure::Result;
use crate::model_folder;

pub(super) fn describe(
    arguments: &InspectArguments,
    path: &Path,
    checkpoint: &Checkpoint,
    threads: usize,
) -> Result<String> {
    let examples = read(path, arguments, checkpoint)?;
    let tokenized = tokenize_all(&examples, checkpoint.tokenizer(), model_folder::eos(checkpoint)?, threads)?;
    let context = checkpoint.config().max_position_embeddings;
    let too_long = tokenized.iter().filter(|example| example.tokens.len() > context).count();
    let prompts = tokenized.iter().map(|example| example.prompt_len).collect();
    let completions = tokenized.iter().map(|example| example.tokens.len() - example.prompt_len).collect();
    let tokens: usize = tokenized.iter().map(|example| example.tokens.len()).sum();
    let distinct: HashSet<&str> = examples.iter().map(|example| example.prompt.as_str()).collect();
    let mut text = String::new();
    let mut row = |name, value: String| row(&mut text, name, &value);
    row("data set", path.display().to_string());
    row("examples", format!("{} with {tokens} tokens", examples.len()));
    row("prompt tokens", lengths::line(prompts));
    row("completion tokens", format!("{}, end marker included", lengths::line(completions)));
    row("too long", format!("{too_long} exceed the model's context of {context} tokens and would be left out"));
    row("repeated prompts", (examples.len() - distinct.len()).to_string());
    if let Some(path) = &arguments.held_out {
        let held_out = read(path, arguments, checkpoint)?;
        let known = held_out.iter().filter(|example| distinct.contains(example.prompt.as_str())).count();
        row("held out", format!("{known} of {} prompts of {} are in the data set too", held_out.len(), path.display()));
    }
    let shown = examples.choose_multiple(&mut random(arguments.seed, "inspect", 0), arguments.examples);
    shown.for_each(|example| show(&mut text, example));
    Ok(text)
}

fn read(path: &Path, arguments: &InspectArguments, checkpoint: &Checkpoint) -> Result<Vec<Example>> {
    let examples = data::read(path, checkpoint.tokenizer(), &arguments.records, None)?;
    Ok(examples.into_iter().map(|(_, example)| example).collect())
}

fn show(text: &mut String, Example { prompt, completion }: &Example) {
    let bold = anstyle::Style::new().bold();
    let _ = writeln!(text, "\n{prompt}{bold}{completion}{bold:#}");
}
