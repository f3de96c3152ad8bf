//! The stage `train` from arguments to a checkpoint.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use cllm_engine::{Checkpoint, DecodeOptions, Strategy};
use serde_json::{Value, json};

use super::labels::Labels;
use super::noise::{Choice, Consistency, NoiseSchedule, States};
use super::objective::ConsistencyObjective;
use super::present::Present;
use super::probe::Probe;
use super::refresh::Refresh;
use crate::data::{self, RecordArguments};
use crate::data_order::DataOrder;
use crate::distributed;
use crate::failure::{Failure, Result};
use crate::fine_tune::{OptimizerArguments, Run, not_negative};
use crate::model_folder::{self, StoredDtype};
use crate::progress::Reporter;
use crate::run_loop::fine_tune;
use crate::run_output;
use crate::run_state;
use crate::trajectories::{ShardMetadata, read_all};

/// Checks of a run.
const CHECKS: u64 = 8;
/// Held-out prompts of a check.
const PROBE_PROMPTS: usize = 48;

/// Arguments of `train`.
#[derive(Clone, Debug, clap::Args)]
pub struct TrainArguments {
    /// The target, from which training starts.
    #[arg(long)]
    pub model: PathBuf,
    /// The folder of shards that `collect` wrote.
    #[arg(long)]
    pub trajectories: PathBuf,
    /// The checkpoint to write; it appears when it is complete.
    #[arg(long)]
    pub output: PathBuf,
    /// Updates.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Weight of what keeps the answers (--labels); more keeps them better, less gains speed.
    #[arg(long, default_value_t = 10.0, value_parser = not_negative)]
    pub autoregressive_weight: f64,
    /// What keeps the answers: cross-entropy on the target's tokens, or divergence from its distributions at them, for which its weights are
    /// held once more.
    #[arg(long, value_enum, default_value_t = Labels::Tokens)]
    pub labels: Labels,
    /// How noisy the states are.
    #[arg(long, value_enum, default_value_t = NoiseSchedule::Progressive)]
    pub noise_schedule: NoiseSchedule,
    /// Where the states come from.
    #[arg(long, value_enum, default_value_t = States::Trajectories)]
    pub states: States,
    /// What teaches them; Local needs `--states=Trajectories`, None trains by --labels alone.
    #[arg(long, value_enum, default_value_t = Consistency::Global)]
    pub consistency: Consistency,
    /// Steps after which the trajectories that the next so many steps learn from are collected anew with the present weights, over and over;
    /// 0: all steps learn from those of the target.
    #[arg(long, default_value_t = 0)]
    pub refresh_every_steps: u64,
    /// Held-out prompts (JSONL or Parquet) on which speed and answers are measured now and then, and which so decide over the result
    /// (--keep); nothing is learnt from them.
    #[arg(long)]
    pub validation: Option<PathBuf>,
    /// Percent by which the perplexity of the target's answers to held-out prompts may exceed that of the target itself. Of the checks within
    /// this the one with the most tokens per forward is the best; where there is none, the one with the lowest perplexity.
    #[arg(long, default_value_t = 5.0, value_parser = not_negative)]
    pub max_perplexity_rise: f64,
    /// See [`RecordArguments`].
    #[command(flatten)]
    pub records: RecordArguments,
    /// How the weights of the output are stored. By default as those of the target, so that both are measured alike: in 16 bits where it has no more.
    #[arg(long, value_enum)]
    pub dtype: Option<StoredDtype>,
    /// See [`OptimizerArguments`].
    #[command(flatten)]
    pub optimizer: OptimizerArguments,
}

/// Trains and writes the checkpoint; does nothing where it is there already.
pub fn run(arguments: &TrainArguments, threads: usize, reporter: &mut Reporter) -> Result<()> {
    check_loss(arguments)?;
    let place = arguments.optimizer.processes.place()?;
    let _lock = place.lock(&arguments.optimizer.state)?;
    let checkpoint = Arc::new(Checkpoint::open(&arguments.model)?);
    let digest = cllm_engine::checkpoint::digest(&arguments.model)?;
    let (examples, shards) = read_all(&arguments.trajectories)?;
    check_origin(arguments, &digest, &shards)?;
    let dtype = arguments.dtype.unwrap_or_else(|| StoredDtype::of(&checkpoint));
    let settings = settings(arguments, dtype, &digest, &shards)?;
    if place.leads() && run_output::is_done(&arguments.output, &settings)? {
        run_state::forget_finished(&arguments.optimizer.state, &settings)?;
        reporter.note(&format!("{} is complete already", arguments.output.display()));
        return distributed::tell_complete(&place, &settings, reporter);
    }
    if examples.is_empty() {
        let folder = arguments.trajectories.display();
        return Err(Failure::BadInput(format!(
            "{folder} holds no usable generations; give `collect` a target that knows the task"
        )));
    }
    let model = arguments.optimizer.model(&checkpoint)?;
    let present = Present::new(&checkpoint, &arguments.optimizer.state, dtype);
    let mut objective = ConsistencyObjective {
        seed: arguments.optimizer.seed,
        order: DataOrder::new(arguments.optimizer.seed, examples.len()),
        examples,
        refresh: refresh(arguments, &present, &shards, threads, reporter)?,
        refreshed: BTreeMap::new(),
        batch_size: arguments.optimizer.batch_size as usize,
        choice: Choice {
            states: arguments.states,
            schedule: arguments.noise_schedule,
            consistency: arguments.consistency,
            block_size: block_size(&shards)?.get(),
            visits: arguments.steps * u64::from(arguments.optimizer.batch_size),
        },
        autoregressive_weight: arguments.autoregressive_weight,
        target: match arguments.labels {
            Labels::Tokens => None,
            Labels::Distributions => Some(model_folder::differentiable(&checkpoint, arguments.optimizer.device)?),
        },
        probe: if place.leads() { probe(arguments, &checkpoint, present, &shards, threads)? } else { None },
    };
    let (optimizer, output, steps) = (&arguments.optimizer, &arguments.output, arguments.steps);
    let run = Run { arguments: optimizer, place: &place, output, steps, settings: &settings, threads };
    fine_tune(&model, &mut objective, &run, reporter, |history| {
        run_output::write(output, &checkpoint, &model, dtype, &settings, history)
    })
}

/// A made-up state has no next one and is not collected, and something must be learnt.
fn check_loss(arguments: &TrainArguments) -> Result<()> {
    match (arguments.consistency, arguments.states) {
        (Consistency::Local, States::Noise | States::Mixed) => Err(Failure::BadInput(format!(
            "--consistency=Local learns from the next state of a trajectory, which made-up states (--states={:?}) lack; \
             give --states=Trajectories or --consistency=Global",
            arguments.states
        ))),
        (Consistency::None, _) if arguments.autoregressive_weight == 0.0 => Err(Failure::BadInput(
            "--consistency=None leaves nothing but what keeps the answers, and --autoregressive-weight=0 leaves nothing to learn; \
             give a weight above 0"
                .to_owned(),
        )),
        _ if arguments.labels == Labels::Distributions && arguments.autoregressive_weight == 0.0 => Err(Failure::BadInput(
            "--labels=Distributions says by what the answers are kept, and --autoregressive-weight=0 does not keep them; \
             give a weight above 0, or leave --labels out"
                .to_owned(),
        )),
        (_, States::Noise) if arguments.refresh_every_steps > 0 => Err(Failure::BadInput(
            "--states=Noise makes its states up, so --refresh-every-steps has no trajectories to collect anew; \
             give --states=Trajectories or Mixed, or leave --refresh-every-steps out"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Trajectories of another model teach states that this one never meets.
fn check_origin(arguments: &TrainArguments, digest: &str, shards: &[ShardMetadata]) -> Result<()> {
    match shards.iter().find(|shard| shard.model != digest) {
        Some(shard) => Err(Failure::BadInput(format!(
            "the trajectories in {} are of the model {}, but {} is {digest}; collect them again with this model",
            arguments.trajectories.display(),
            shard.model,
            arguments.model.display()
        ))),
        None => Ok(()),
    }
}

fn settings(arguments: &TrainArguments, dtype: StoredDtype, digest: &str, shards: &[ShardMetadata]) -> Result<Value> {
    let mut settings = arguments.optimizer.settings(arguments.steps);
    settings["command"] = json!("train");
    settings["model"] = json!(digest);
    settings["trajectories"] = shards.iter().map(|shard| shard.checksum.as_str()).collect();
    settings["autoregressive_weight"] = json!(arguments.autoregressive_weight);
    settings["noise_schedule"] = json!(arguments.noise_schedule);
    settings["states"] = json!(arguments.states);
    settings["dtype"] = json!(dtype);
    if arguments.consistency != Consistency::Global {
        // absent where it is usual: runs that began before there was a choice go on
        settings["consistency"] = json!(arguments.consistency);
    }
    if arguments.labels != Labels::Tokens {
        settings["labels"] = json!(arguments.labels);
    }
    if arguments.refresh_every_steps > 0 {
        settings["refresh_every_steps"] = json!(arguments.refresh_every_steps);
    }
    if arguments.optimizer.keep.note(arguments.validation.as_deref(), &mut settings)? {
        settings["max_perplexity_rise"] = json!(arguments.max_perplexity_rise);
        arguments.records.fields.note(&mut settings);
    }
    Ok(settings)
}

/// A number that the collection was made with.
fn setting(shards: &[ShardMetadata], name: &str) -> Result<usize> {
    let value = shards.first().and_then(|shard| shard.settings.get(name)).and_then(Value::as_u64);
    value
        .filter(|value| *value > 0)
        .map(|value| value as usize)
        .ok_or_else(|| Failure::BadInput(format!("the trajectories do not say their {name}; collect them again")))
}

fn block_size(shards: &[ShardMetadata]) -> Result<NonZeroUsize> {
    Ok(NonZeroUsize::new(setting(shards, "block_size")?).unwrap_or(NonZeroUsize::MIN))
}

/// A control learns from no states, so they need not follow its weights.
fn refresh(
    arguments: &TrainArguments,
    present: &Present,
    shards: &[ShardMetadata],
    threads: usize,
    reporter: &Reporter,
) -> Result<Option<Refresh>> {
    if arguments.refresh_every_steps == 0 || arguments.consistency == Consistency::None {
        return Ok(None);
    }
    Ok(Some(Refresh {
        every: arguments.refresh_every_steps,
        steps: arguments.steps,
        seed: arguments.optimizer.seed,
        block_size: block_size(shards)?,
        present: present.clone(),
        threads,
        interruption: reporter.interruption(),
    }))
}

fn probe(
    arguments: &TrainArguments,
    checkpoint: &Arc<Checkpoint>,
    present: Present,
    shards: &[ShardMetadata],
    threads: usize,
) -> Result<Option<Probe>> {
    let Some(path) = &arguments.validation else { return Ok(None) };
    let context = checkpoint.config().max_position_embeddings;
    let mut prompts = Vec::new();
    for (_, example) in data::read(path, checkpoint.tokenizer(), &arguments.records, Some(PROBE_PROMPTS))? {
        prompts.push(checkpoint.tokenizer().encode(&example.prompt).map_err(Failure::engine)?);
    }
    prompts.retain(|prompt| !prompt.is_empty() && prompt.len() < context);
    if prompts.is_empty() {
        let path = path.display();
        return Err(Failure::BadInput(format!("no prompt of {path} fits the context of {context} tokens")));
    }
    Ok(Some(Probe {
        every: arguments.steps.div_ceil(CHECKS).max(1),
        last: arguments.steps,
        model: Arc::clone(checkpoint),
        present,
        prompts,
        options: DecodeOptions {
            strategy: Strategy::Jacobi { block_size: block_size(shards)?, lookup: false },
            max_new_tokens: setting(shards, "max_new_tokens")?,
            stop_at_eos: true,
        },
        max_perplexity_rise: arguments.max_perplexity_rise,
        threads,
        target: None,
    }))
}
