//! What `adapt` and `train` share: how fast and how long is learnt, and what an objective is. The loop is in `run_loop`.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use cllm_engine::differentiable::{Activations, DifferentiableModel, ForwardInput};
use cllm_engine::{Checkpoint, Device};
use serde_json::{Value, json};

use crate::best::{Check, Keep};
use crate::distributed::{Place, ProcessArguments};
use crate::failure::Result;
use crate::method::MethodArguments;
use crate::model_folder;
use crate::optimizer::{AdamWOptions, Decay, Schedule};
use crate::parallel::Terms;
use crate::progress::Reporter;
use crate::trajectories::NamedColumns;

/// What is learnt, how fast and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct OptimizerArguments {
    /// See [`MethodArguments`].
    #[command(flatten)]
    pub method: MethodArguments,
    /// Examples of an update.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1e-3, value_parser = positive)]
    pub learning_rate: f64,
    /// Updates until the highest rate is reached.
    #[arg(long, default_value_t = 30)]
    pub warmup_steps: u64,
    /// How the rate falls afterwards, to a fiftieth at the end.
    #[arg(long, value_enum, default_value_t = Decay::Linear)]
    pub decay: Decay,
    /// Decay of the mean of gradients.
    #[arg(long, default_value_t = 0.9, value_parser = fraction)]
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    #[arg(long, default_value_t = 0.98, value_parser = fraction)]
    pub beta2: f64,
    /// Pull of matrices towards zero.
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub weight_decay: f64,
    /// Longest gradient; longer ones are shortened to it.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub clip: f64,
    /// Steps in a row with a loss far above its lowest (more than twice, and by half a nat a token) after which the run stops as diverged; 0: it
    /// stops only where numbers are not finite.
    #[arg(long, default_value_t = 100)]
    pub divergence_steps: u64,
    /// Which weights become the result.
    #[arg(long, value_enum, default_value_t = Keep::Best)]
    pub keep: Keep,
    /// Decides over everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Updates between two checkpoints of the run.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every_steps: u64,
    /// Where the run keeps its checkpoints.
    #[arg(long)]
    pub state: PathBuf,
    /// What computes losses and gradients: cpu, cuda or cuda:N. A run may go on on another device; results differ by rounding.
    #[arg(long, default_value_t = Device::Cpu)]
    pub device: Device,
    /// Compute the activations of a layer again when its gradients are due instead of keeping those of all layers: less memory, about a
    /// third more time, the same result.
    #[arg(
        long,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub gradient_checkpointing: bool,
    /// See [`ProcessArguments`].
    #[command(flatten)]
    pub processes: ProcessArguments,
}

impl OptimizerArguments {
    /// Everything in here that decides over the result, which threads and processes do not.
    pub fn settings(&self, steps: u64) -> Value {
        let mut settings = json!({
            "steps": steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "weight_decay": self.weight_decay,
            "clip": self.clip,
            "seed": self.seed,
        });
        self.method.note(&mut settings);
        settings
    }

    /// The model of a checkpoint, with what is learnt as its variables.
    pub(crate) fn model(&self, checkpoint: &Checkpoint) -> Result<DifferentiableModel> {
        self.method.prepare(model_folder::differentiable(checkpoint, self.device)?, self.seed)
    }

    /// What becomes of the activations of a forward.
    pub(crate) fn activations(&self) -> Activations {
        if self.gradient_checkpointing { Activations::Recompute } else { Activations::Keep }
    }

    /// The learning rate over all steps.
    pub(crate) fn schedule(&self, steps: u64) -> Schedule {
        Schedule { peak: self.learning_rate, warmup_steps: self.warmup_steps, steps, decay: self.decay }
    }

    /// The constants of the optimizer.
    pub(crate) fn adamw(&self) -> AdamWOptions {
        AdamWOptions { beta_1: self.beta1, beta_2: self.beta2, epsilon: 1e-8, weight_decay: self.weight_decay }
    }
}

/// A number above 0.
pub fn positive(text: &str) -> std::result::Result<f64, String> {
    number(text, |value| value > 0.0, "a number above 0")
}

/// 0 or a number above it.
pub fn not_negative(text: &str) -> std::result::Result<f64, String> {
    number(text, |value| value >= 0.0, "0 or a number above it")
}

fn fraction(text: &str) -> std::result::Result<f64, String> {
    number(text, |value| (0.0..1.0).contains(&value), "a number from 0 to 1, without 1")
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, expected: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && allowed(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

/// The name of the loss among the figures of a step.
pub const LOSS: &str = "loss";

/// What is learnt.
pub trait Objective: Sync {
    /// A micro-batch.
    type Batch: Sync;

    /// The micro-batches of a step, counted from 0: a pure function of the step and of what was refreshed.
    fn batches(&mut self, step: u64) -> Result<Vec<Self::Batch>>;

    /// What the forward of a micro-batch takes.
    fn input<'a>(&self, batch: &'a Self::Batch) -> ForwardInput<'a>;

    /// The scalar to differentiate and its terms, from the logits of [`Objective::input`]. Terms are summed over the micro-batches; the
    /// scalar is their (weighted) sum.
    fn loss(&self, logits: &Tensor, batch: &Self::Batch) -> Result<(Tensor, Terms)>;

    /// Names and values to report for the terms of a step; the loss that is differentiated is called [`LOSS`].
    fn figures(&self, terms: Terms) -> Vec<(&'static str, f64)>;

    /// The weights of the terms in the loss, added up: the loss over them is in nats a token.
    fn weight(&self) -> f64;

    /// Whether it is time to [refresh](Self::refresh) before a step, counted from 0.
    fn refresh_is_due(&self, _step: u64) -> bool {
        false
    }

    /// Called in process 0 before such a step: makes anew what it and those after it learn from, and gives it for other processes and for
    /// later. A pure function of weights and step.
    fn refresh(&mut self, _model: &DifferentiableModel, _step: u64, _reporter: &Reporter) -> Result<NamedColumns> {
        Ok(NamedColumns::new())
    }

    /// Takes what was refreshed by another process, or before this one began; nothing where nothing was.
    fn take_refreshed(&mut self, _refreshed: &NamedColumns) -> Result<()> {
        Ok(())
    }

    /// Called after every step in process 0; may measure now and then, always at the last one if it ever does.
    fn measure(&mut self, model: &DifferentiableModel, step: u64) -> Result<Option<Check>>;
}

/// Settings of a run as the loop needs them.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// The optimizer's.
    pub arguments: &'a OptimizerArguments,
    /// Which process of the run this is.
    pub place: &'a Place,
    /// What the run makes.
    pub output: &'a Path,
    /// All updates.
    pub steps: u64,
    /// What decides over the result; a state with other settings is refused.
    pub settings: &'a Value,
    /// Threads for gradients.
    pub threads: usize,
}

/// Micro-batches at a time: a GPU takes one after the other, and would only hold the activations of several.
pub(crate) fn gradient_threads(model: &DifferentiableModel, threads: usize) -> usize {
    if model.device().is_cpu() { threads } else { 1 }
}
