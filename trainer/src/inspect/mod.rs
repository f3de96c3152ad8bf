//! `inspect`: what is in a data set or in collected trajectories, on the terminal, before hours are spent on it. Changes nothing.

mod dataset;
mod lengths;
mod trajectories;

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use cllm_engine::Checkpoint;

use crate::data::RecordArguments;
use crate::failure::{Failure, Result};

/// Arguments of `inspect`.
#[derive(Clone, Debug, clap::Args)]
pub struct InspectArguments {
    /// The model whose tokenizer, template and context count.
    #[arg(long)]
    pub model: PathBuf,
    /// A data set to look at: JSONL (.gz, .zst) or Parquet.
    #[arg(long, required_unless_present = "trajectories")]
    pub dataset: Option<PathBuf>,
    /// A second data set: how many of its prompts the first one has too.
    #[arg(long, requires = "dataset")]
    pub held_out: Option<PathBuf>,
    /// See [`RecordArguments`].
    #[command(flatten)]
    pub records: RecordArguments,
    /// A folder of shards that `collect` wrote.
    #[arg(long)]
    pub trajectories: Option<PathBuf>,
    /// Examples to show.
    #[arg(long, default_value_t = 3)]
    pub examples: usize,
    /// Blocks to show of every example of the trajectories.
    #[arg(long, default_value = "2")]
    pub blocks: NonZeroUsize,
    /// Chooses the examples.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Prints what was asked for.
pub fn run(arguments: &InspectArguments, threads: usize) -> Result<()> {
    let checkpoint = Checkpoint::open(&arguments.model)?;
    let mut text = String::new();
    if let Some(path) = &arguments.dataset {
        text += &dataset::describe(arguments, path, &checkpoint, threads)?;
    }
    if let Some(folder) = &arguments.trajectories {
        text += &trajectories::describe(arguments, folder, &checkpoint)?;
    }
    // colours go where somebody sees them, and not into files
    let written = anstream::stdout().write_all(text.as_bytes());
    match written {
        // `| head` has seen enough
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|source| Failure::Write { path: PathBuf::from("standard output"), source }),
    }
}

/// A line of numbers.
fn row(text: &mut String, name: &str, value: &dyn Display) {
    // writing to a String cannot fail
    let _ = writeln!(text, "{name:<20} {value}");
}
