//! `collect`: greedy generations of the target and the Jacobi trajectories of their blocks, one shard at a time. And trajectories of these
//! generations by later weights, for `train`.

mod again;
mod decoding;
mod division;
mod ledger;
mod shards;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use cllm_crds::status_page::{Dropped, Trajectories};
use cllm_engine::{Checkpoint, ComputeOptions, KvPool, Model, available_memory};
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::data::{self, DatasetArguments};
use crate::data_order::random;
use crate::failure::{Failure, Result};
use crate::progress::Reporter;
use crate::run_output::file_digest;
use crate::trajectories::Counts;
pub(crate) use again::Again;
use decoding::{Answer, Prompt, fits};
use division::{Budget, Division};
use ledger::Pace;
use shards::Collector;

/// Arguments of `collect`.
#[derive(Clone, Debug, clap::Args)]
pub struct CollectArguments {
    /// The target.
    #[arg(long)]
    pub model: PathBuf,
    /// See [`DatasetArguments`].
    #[command(flatten)]
    pub data: DatasetArguments,
    /// The folder of the shards.
    #[arg(long)]
    pub output: PathBuf,
    /// Into how many shards the examples are split.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99_999))]
    pub shards: u32,
    /// Which shard to collect, from 0; all of them, one after the other, where it is not given.
    #[arg(long, env = "JOB_COMPLETION_INDEX")]
    pub shard_index: Option<u32>,
    /// Tokens of a block.
    #[arg(long, default_value = "16")]
    pub block_size: NonZeroUsize,
    /// Most tokens of a generation; longer ones are dropped.
    #[arg(long, default_value = "128")]
    pub max_new_tokens: NonZeroUsize,
    /// Most examples, all shards together, chosen by the seed; all where it is not given.
    #[arg(long)]
    pub max_examples: Option<NonZeroUsize>,
    /// Decides which examples, and where their blocks begin.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Texts that each thread decodes at the same time; as many as fill its forwards where it is not given. The result is the same.
    #[arg(long)]
    pub concurrency: Option<NonZeroUsize>,
    /// What is done is kept every so many seconds, beside the shard that it is for; 0 for after every text.
    #[arg(long, default_value_t = 60)]
    pub checkpoint_every_seconds: u64,
}

/// Collects one shard or all. Shards that are there and valid are left as they are; one that was begun goes on where it was.
pub fn run(arguments: &CollectArguments, threads: usize, reporter: &mut Reporter) -> Result<Trajectories> {
    if arguments.shard_index.is_some_and(|index| index >= arguments.shards) {
        return Err(Failure::BadInput(format!(
            "there is no shard {} of {}: --shard-index (or JOB_COMPLETION_INDEX) must be below --shards",
            arguments.shard_index.unwrap_or_default(),
            arguments.shards
        )));
    }
    let checkpoint = Checkpoint::open(&arguments.model)?;
    let digest = cllm_engine::checkpoint::digest(&arguments.model)?;
    let settings = settings(arguments)?;
    let prompts = prompts(arguments, &checkpoint)?;
    let (model, division) = load(&checkpoint, &budget(arguments, &checkpoint, &prompts, threads))?;
    let mut collector = Collector { arguments, digest, settings, prompts, model, division, reporter };
    let shards = arguments.shard_index.map_or(0..arguments.shards, |index| index..index + 1);
    let (mut total, mut pace) = (Counts::default(), Pace::default());
    for shard in shards {
        total = total + collector.shard(shard, &mut pace)?;
    }
    Ok(summary(&total, pace))
}

/// Of the largest shard.
fn budget(arguments: &CollectArguments, checkpoint: &Checkpoint, prompts: &[Prompt], threads: usize) -> Budget {
    let config = checkpoint.config();
    let context = config.max_position_embeddings;
    let lengths = prompts.iter().filter(|prompt| fits(&prompt.tokens, context)).map(|prompt| prompt.tokens.len());
    let longest = lengths.max().unwrap_or(0).saturating_add(arguments.max_new_tokens.get()).min(context);
    Budget {
        threads,
        prompts: prompts.len().div_ceil(arguments.shards as usize),
        block_size: arguments.block_size.get(),
        concurrency: arguments.concurrency.map(NonZeroUsize::get),
        longest,
        page_bytes: KvPool::page_bytes_on_processor(config) as u64,
        free_bytes: free_beside_weights(checkpoint),
    }
}

fn free_beside_weights(checkpoint: &Checkpoint) -> Option<u64> {
    let weights = Model::expected_weight_bytes(checkpoint);
    available_memory().map(|free| free.saturating_sub(weights))
}

/// The model of a checkpoint, and what its threads get of a budget.
fn load(checkpoint: &Checkpoint, budget: &Budget) -> Result<(Model, Division)> {
    let division = budget.divide();
    // a model that does not fit at all says so itself
    let threads = division.map_or(1, |division| division.threads_of_forward(budget.threads));
    let model = Model::load(checkpoint, ComputeOptions { threads, ..ComputeOptions::default() });
    let model = model.map_err(Failure::engine)?;
    let division = division.ok_or_else(|| Failure::engine(budget.too_little()))?;
    Ok((model, division))
}

fn settings(arguments: &CollectArguments) -> Result<Value> {
    let mut settings = json!({
        "dataset": file_digest(&arguments.data.dataset)?,
        "block_size": arguments.block_size,
        "max_new_tokens": arguments.max_new_tokens,
        "max_examples": arguments.max_examples,
        "seed": arguments.seed,
    });
    arguments.data.records.fields.note(&mut settings);
    Ok(settings)
}

/// The chosen prompts, in an order that the seed decides.
fn prompts(arguments: &CollectArguments, checkpoint: &Checkpoint) -> Result<Vec<Prompt>> {
    let mut examples = arguments.data.read(checkpoint.tokenizer())?;
    examples.shuffle(&mut random(arguments.seed, "collect", 0));
    examples.truncate(arguments.max_examples.map_or(usize::MAX, NonZeroUsize::get));
    let encode = |(index, example): (u32, data::Example)| {
        let tokens = checkpoint.tokenizer().encode(&example.prompt).map_err(Failure::engine)?;
        Ok(Prompt { index, tokens, answer: Answer::Own(arguments.max_new_tokens) })
    };
    examples.into_iter().map(encode).collect()
}

fn summary(counts: &Counts, pace: Pace) -> Trajectories {
    Trajectories {
        examples: counts.examples,
        blocks: counts.blocks,
        states: counts.states,
        tokens: counts.tokens,
        dropped: counts.dropped(),
        dropped_because: Some(Dropped {
            empty: counts.dropped_empty,
            truncated: counts.dropped_truncated,
            degenerate: counts.dropped_degenerate,
            too_long: counts.dropped_too_long,
        }),
        tokens_per_forward: format!("{:.2}", counts.tokens_per_forward()),
        tokens_per_second: pace.tokens_per_second().map(|rate| format!("{rate:.1}")),
    }
}
