//! `collect`: greedy generations of the target and the Jacobi trajectories of their blocks, one shard at a time.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cllm_crds::status_page::Trajectories;
use cllm_engine::{Checkpoint, ComputeOptions, DecodeOptions, Model, Strategy, Workspace, generate_with_trajectories};
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::data::{self, RecordArguments};
use crate::data_order::random;
use crate::failure::{Failure, Result};
use crate::progress::Reporter;
use crate::run_output::file_digest;
use crate::run_state::other_settings;
use crate::storage::FolderLock;
use crate::trajectories::{
    Counts, ShardMetadata, TrajectoryExample, Usability, judge, read_shard, shard_path, write_shard,
};

/// Arguments of `collect`.
#[derive(Clone, Debug, clap::Args)]
pub struct CollectArguments {
    /// The target.
    #[arg(long)]
    pub model: PathBuf,
    /// JSONL (.gz, .zst) or Parquet whose prompts are answered.
    #[arg(long)]
    pub dataset: PathBuf,
    /// See [`RecordArguments`].
    #[command(flatten)]
    pub records: RecordArguments,
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
}

/// Collects one shard or all. Shards that are there and valid are left as they are.
pub fn run(arguments: &CollectArguments, threads: usize, reporter: &mut Reporter) -> Result<Trajectories> {
    if arguments.shard_index.is_some_and(|index| index >= arguments.shards) {
        return Err(Failure::BadInput(format!(
            "there is no shard {} of {}: --shard-index (or JOB_COMPLETION_INDEX) must be below --shards",
            arguments.shard_index.unwrap_or_default(),
            arguments.shards
        )));
    }
    let checkpoint = Checkpoint::open(&arguments.model)?;
    let mut collector = Collector {
        arguments,
        threads,
        model_digest: cllm_engine::checkpoint::digest(&arguments.model)?,
        settings: settings(arguments)?,
        prompts: prompts(arguments, &checkpoint)?,
        model: Model::load(&checkpoint, ComputeOptions { threads: 1, ..ComputeOptions::default() })
            .map_err(Failure::engine)?,
        reporter,
    };
    let shards = arguments.shard_index.map_or(0..arguments.shards, |index| index..index + 1);
    let mut total = Counts::default();
    for shard in shards {
        total = total + collector.shard(shard)?;
    }
    Ok(summary(&total))
}

fn settings(arguments: &CollectArguments) -> Result<Value> {
    let mut settings = json!({
        "dataset": file_digest(&arguments.dataset)?,
        "block_size": arguments.block_size,
        "max_new_tokens": arguments.max_new_tokens,
        "max_examples": arguments.max_examples,
        "seed": arguments.seed,
    });
    arguments.records.fields.note(&mut settings);
    Ok(settings)
}

/// The chosen prompts as number of the record and tokens, in an order that the seed decides.
fn prompts(arguments: &CollectArguments, checkpoint: &Checkpoint) -> Result<Vec<(u32, Vec<u32>)>> {
    let mut examples = data::read(&arguments.dataset, checkpoint.tokenizer(), &arguments.records, None)?;
    examples.shuffle(&mut random(arguments.seed, "collect", 0));
    examples.truncate(arguments.max_examples.map_or(usize::MAX, NonZeroUsize::get));
    let encode = |(number, example): (u32, data::Example)| {
        let tokens = checkpoint.tokenizer().encode(&example.prompt).map_err(Failure::engine)?;
        Ok((number, tokens))
    };
    examples.into_iter().map(encode).collect()
}

struct Collector<'a> {
    arguments: &'a CollectArguments,
    threads: usize,
    model_digest: String,
    settings: Value,
    prompts: Vec<(u32, Vec<u32>)>,
    model: Model,
    reporter: &'a mut Reporter,
}

/// What became of one prompt.
enum Outcome {
    Kept(Box<TrajectoryExample>, u64),
    Dropped(Usability),
    TooLong,
}

impl Collector<'_> {
    fn shard(&mut self, shard: u32) -> Result<Counts> {
        let folder = &self.arguments.output;
        let _lock = FolderLock::take_named(folder, &format!(".lock-{shard:05}"))?;
        let path = shard_path(folder, shard, self.arguments.shards);
        if path.exists() {
            match read_shard(&path) {
                Ok((found, _)) if found.settings == self.settings && found.model == self.model_digest => {
                    self.reporter.note(&format!("{} is complete already", path.display()));
                    return Ok(found.counts);
                }
                Ok((found, _)) => return Err(self.foreign(&found)),
                Err(problem) => self.reporter.note(&format!("{problem}: collecting it again")),
            }
        }
        let (examples, counts) = self.collect(shard)?;
        let metadata = ShardMetadata {
            version: 0,
            model: self.model_digest.clone(),
            settings: self.settings.clone(),
            shard,
            shards: self.arguments.shards,
            counts,
            checksum: String::new(),
        };
        write_shard(&path, &examples, metadata)?;
        Ok(counts)
    }

    fn foreign(&self, found: &ShardMetadata) -> Failure {
        let with_model = |model: &str, settings: &Value| {
            let mut all = settings.clone();
            all["model"] = json!(model);
            all
        };
        let (found, asked) =
            (with_model(&found.model, &found.settings), with_model(&self.model_digest, &self.settings));
        other_settings(&self.arguments.output, &found, &asked)
    }

    fn collect(&mut self, shard: u32) -> Result<(Vec<TrajectoryExample>, Counts)> {
        let mine: Vec<&(u32, Vec<u32>)> =
            self.prompts.iter().skip(shard as usize).step_by(self.arguments.shards as usize).collect();
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Progress::default()));
        let reporter = Mutex::new(&mut *self.reporter);
        let (model, arguments) = (&self.model, self.arguments);
        let work = || -> Result<()> {
            let mut workspace = Workspace::new(model);
            while let Some((line, prompt)) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = answer(model, &mut workspace, arguments, *line, prompt)?;
                let mut reporter = reporter.lock().map_err(Failure::engine)?;
                reporter.check_interruption()?;
                let mut done = done.lock().map_err(Failure::engine)?;
                done.add(outcome);
                reporter.update(done.seen, mine.len() as u64, &done.figures());
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            others.into_iter().fold(own, |outcome, other| {
                outcome.and(other.join().unwrap_or_else(|_| Err(Failure::engine("a worker failed"))))
            })
        })?;
        let mut done = done.into_inner().map_err(Failure::engine)?;
        done.examples.sort_by_key(|example| example.index);
        Ok((done.examples, done.counts))
    }
}

fn answer(
    model: &Model,
    workspace: &mut Workspace,
    arguments: &CollectArguments,
    line: u32,
    prompt: &[u32],
) -> Result<Outcome> {
    let options = DecodeOptions {
        strategy: Strategy::Jacobi { block_size: arguments.block_size, lookup: false },
        max_new_tokens: arguments.max_new_tokens.get(),
        stop_at_eos: true,
    };
    if prompt.is_empty() || prompt.len() >= model.config().max_position_embeddings {
        return Ok(Outcome::TooLong);
    }
    let first = random(arguments.seed, "block", u64::from(line)).random_range(1..=arguments.block_size.get());
    let first = NonZeroUsize::new(first).unwrap_or(NonZeroUsize::MIN);
    let (generation, blocks) =
        generate_with_trajectories(model, workspace, prompt, options, first).map_err(Failure::engine)?;
    Ok(match judge(&generation.tokens, model.eos_token_ids()) {
        Usability::Usable => {
            let tokens = [prompt, &generation.tokens].concat();
            let example = TrajectoryExample { index: line, tokens, prompt_len: prompt.len(), blocks };
            Outcome::Kept(Box::new(example), generation.statistics.decode_forwards as u64)
        }
        unusable => Outcome::Dropped(unusable),
    })
}

#[derive(Default)]
struct Progress {
    seen: u64,
    examples: Vec<TrajectoryExample>,
    counts: Counts,
}

impl Progress {
    fn add(&mut self, outcome: Outcome) {
        self.seen += 1;
        let counts = &mut self.counts;
        match outcome {
            Outcome::Kept(example, forwards) => {
                counts.examples += 1;
                counts.blocks += example.blocks.len() as u64;
                counts.states += example.blocks.iter().map(|block| block.states.len() as u64).sum::<u64>();
                counts.tokens += (example.tokens.len() - example.prompt_len) as u64;
                counts.forwards += forwards;
                self.examples.push(*example);
            }
            Outcome::Dropped(Usability::Empty) => counts.dropped_empty += 1,
            Outcome::Dropped(Usability::Truncated) => counts.dropped_truncated += 1,
            Outcome::Dropped(_) => counts.dropped_degenerate += 1,
            Outcome::TooLong => counts.dropped_too_long += 1,
        }
    }

    fn figures(&self) -> [(&'static str, String); 3] {
        [
            ("examples", self.counts.examples.to_string()),
            ("dropped", self.counts.dropped().to_string()),
            ("tokensPerForward", format!("{:.2}", self.counts.tokens_per_forward())),
        ]
    }
}

fn summary(counts: &Counts) -> Trajectories {
    Trajectories {
        examples: counts.examples,
        blocks: counts.blocks,
        states: counts.states,
        tokens: counts.tokens,
        dropped: counts.dropped(),
        tokens_per_forward: format!("{:.2}", counts.tokens_per_forward()),
    }
}
