//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use cllm_crds::status_page::JobStage;
use cllm_storage::{DatasetAccess, ModelAccess, OutputAccess};

use crate::adapt::AdaptArguments;
use crate::collect::CollectArguments;
use crate::consistency::TrainArguments;
use crate::evaluate::{EvaluateArguments, ReportArguments};
use crate::init::InitArguments;
use crate::inspect::InspectArguments;
use crate::remote::Input;

/// Makes consistency language models: one subcommand for each stage.
#[derive(Clone, Debug, Parser)]
#[command(name = "cllm-trainer", version)]
pub struct Arguments {
    /// See [`CommonArguments`].
    #[command(flatten)]
    pub common: CommonArguments,
    /// The stage.
    #[command(subcommand)]
    pub command: Command,
}

/// What every stage takes.
#[derive(Clone, Debug, Args)]
pub struct CommonArguments {
    /// Port of /status, /metrics and /livez; 0 for none.
    #[arg(long, global = true, default_value_t = 0)]
    pub metrics_port: u16,
    /// Address of the metrics port.
    #[arg(long, global = true, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// A file for the last words (JSON); in a Pod, /dev/termination-log.
    #[arg(long, global = true)]
    pub termination_message: Option<PathBuf>,
    /// Threads; 0 for as many as there are processors.
    #[arg(long, global = true, default_value_t = 0)]
    pub threads: usize,
    /// See [`StorageArguments`].
    #[command(flatten)]
    pub storage: StorageArguments,
}

/// For models that are hf://, s3:// or oci://, data that is s3://, and an output that is s3://.
#[derive(Clone, Debug, Default, Args)]
pub struct StorageArguments {
    /// Where downloads are kept, and results on their way out.
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The way to the model.
    #[command(flatten)]
    pub model: ModelAccess,
    /// The way to the data.
    #[command(flatten)]
    pub dataset: DatasetAccess,
    /// The way to the output.
    #[command(flatten)]
    pub output: OutputAccess,
}

impl CommonArguments {
    /// The number of threads to use.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// The stages.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a small random model and a tokenizer for some data.
    #[command(args_override_self = true)]
    Init(InitArguments),
    /// Fine-tune a model on prompts and completions.
    #[command(args_override_self = true)]
    Adapt(AdaptArguments),
    /// Record how a target's answers come about by Jacobi decoding.
    #[command(args_override_self = true)]
    Collect(CollectArguments),
    /// Train a target on its trajectories until it answers in few forwards.
    #[command(args_override_self = true)]
    Train(TrainArguments),
    /// Measure speed and quality against the target, and write checkpoint and report.
    #[command(args_override_self = true)]
    Evaluate(EvaluateArguments),
    /// Look at a data set or at trajectories: numbers, examples, and which token was right after which forward.
    #[command(args_override_self = true)]
    Inspect(InspectArguments),
    /// Read what `evaluate` has written, for a caller that missed its last words.
    #[command(args_override_self = true)]
    Report(ReportArguments),
}

impl Command {
    /// The arguments that may name a place outside of this machine.
    pub(crate) fn inputs(&mut self) -> Vec<(Input, &mut PathBuf)> {
        match self {
            Self::Init(_) => Vec::new(),
            Self::Adapt(adapt) => {
                let validation = adapt.validation.as_mut().map(|path| (Input::Dataset, path));
                let required = [(Input::Model, &mut adapt.model), (Input::Dataset, &mut adapt.data.dataset)];
                required.into_iter().chain(validation).collect()
            }
            Self::Collect(collect) => {
                vec![(Input::Model, &mut collect.model), (Input::Dataset, &mut collect.data.dataset)]
            }
            Self::Train(train) => {
                let validation = train.validation.as_mut().map(|path| (Input::Dataset, path));
                std::iter::once((Input::Model, &mut train.model)).chain(validation).collect()
            }
            Self::Evaluate(evaluate) => {
                vec![(Input::Model, &mut evaluate.target), (Input::Dataset, &mut evaluate.data.dataset)]
            }
            Self::Inspect(inspect) => {
                let data = inspect.dataset.iter_mut().chain(&mut inspect.held_out);
                let data = data.map(|path| (Input::Dataset, path));
                std::iter::once((Input::Model, &mut inspect.model)).chain(data).collect()
            }
            Self::Report(report) => vec![(Input::Model, &mut report.target)],
        }
    }

    /// The stage as the status page names it; making a random model counts to adaptation, looking at data to collection.
    pub fn stage(&self) -> JobStage {
        match self {
            Self::Init(_) | Self::Adapt(_) => JobStage::Adapting,
            Self::Collect(_) | Self::Inspect(_) => JobStage::Collecting,
            Self::Train(_) => JobStage::Training,
            Self::Evaluate(_) | Self::Report(_) => JobStage::Evaluating,
        }
    }
}
