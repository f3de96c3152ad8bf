//! The loop that `adapt` and `train` share: batches, gradients, updates, checkpoints, interruptions. What is learnt is the objective's.

use std::path::{Path, PathBuf};

use candle_core::{Tensor, Var};
use cllm_engine::differentiable::{Activations, DifferentiableModel, ForwardInput};
use cllm_engine::{Checkpoint, Device};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::history::History;
use crate::method::MethodArguments;
use crate::model_folder;
use crate::optimizer::{AdamWOptions, Decay, OptimizerState, Schedule, clip};
use crate::parallel::{Terms, sum_gradients};
use crate::progress::Reporter;
use crate::run_state;

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
    #[arg(long)]
    pub gradient_checkpointing: bool,
}

impl OptimizerArguments {
    /// Everything in here that decides over the result.
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

    fn activations(&self) -> Activations {
        if self.gradient_checkpointing { Activations::Recompute } else { Activations::Keep }
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

/// What is learnt.
pub trait Objective: Sync {
    /// A micro-batch.
    type Batch: Sync;

    /// The micro-batches of a step, counted from 0: a pure function of the step.
    fn batches(&mut self, step: u64) -> Result<Vec<Self::Batch>>;

    /// What the forward of a micro-batch takes.
    fn input<'a>(&self, batch: &'a Self::Batch) -> ForwardInput<'a>;

    /// The scalar to differentiate and its terms, from the logits of [`Objective::input`]. Terms are summed over the micro-batches; the
    /// scalar is their (weighted) sum.
    fn loss(&self, logits: &Tensor, batch: &Self::Batch) -> Result<(Tensor, Terms)>;

    /// Names and values to report for the terms of a step.
    fn figures(&self, terms: Terms) -> Vec<(&'static str, f64)>;

    /// Called after every update; may measure now and then, and gives figures that stay until the next measurement.
    fn measure(&mut self, model: &DifferentiableModel, step: u64) -> Result<Vec<(&'static str, f64)>>;
}

/// Settings of a run as the loop needs them.
#[derive(Debug)]
pub struct Run<'a> {
    /// The optimizer's.
    pub arguments: &'a OptimizerArguments,
    /// All updates.
    pub steps: u64,
    /// What decides over the result; a state with other settings is refused.
    pub settings: &'a Value,
    /// Threads for gradients.
    pub threads: usize,
}

/// Trains `model` to the last step, from the newest state of the run where there is one. Gives the figures of the whole run.
pub fn fine_tune<O: Objective>(
    model: &DifferentiableModel,
    objective: &mut O,
    run: &Run<'_>,
    reporter: &mut Reporter,
) -> Result<History> {
    let variables = model.variables();
    let variables: Vec<&Var> = variables.iter().map(|(_, variable)| *variable).collect();
    let folder = &run.arguments.state;
    let (mut state, mut history) = match run_state::load(folder, model, run.settings)? {
        Some((state, history)) => {
            reporter.note(&format!("continuing after step {} of {}", state.step, run.steps));
            state.write_weights(&variables)?;
            (state, history)
        }
        None => (OptimizerState::new(&variables)?, History::default()),
    };
    while state.step < run.steps {
        if reporter.is_interrupted() {
            run_state::save(folder, model, &state, &history, run.settings)?;
            return Err(Failure::Interrupted);
        }
        let terms = one_step(model, &variables, objective, run, &mut state)?;
        let measured = objective.measure(model, state.step)?;
        history.add(state.step, run.steps, objective.figures(terms), measured);
        reporter.update(state.step, run.steps, &history.shown(state.step));
        if state.step.is_multiple_of(run.arguments.checkpoint_every_steps) && state.step < run.steps {
            run_state::save(folder, model, &state, &history, run.settings)?;
        }
    }
    Ok(history)
}

fn one_step<O: Objective>(
    model: &DifferentiableModel,
    variables: &[&Var],
    objective: &mut O,
    run: &Run<'_>,
    state: &mut OptimizerState,
) -> Result<Terms> {
    let arguments = run.arguments;
    let batches = objective.batches(state.step)?;
    let threads = gradient_threads(model, run.threads);
    let differentiate = |batch: &O::Batch| {
        model.gradients(objective.input(batch), arguments.activations(), |logits| objective.loss(logits, batch))
    };
    let (mut gradients, terms) = sum_gradients(&batches, variables, threads, differentiate)?;
    let norm = clip(&mut gradients, arguments.clip);
    if !norm.is_finite() || !terms.iter().all(|term| term.is_finite()) {
        return Err(Failure::BadInput(format!(
            "the loss or its gradient is not a finite number at step {}; lower --learning-rate, or check the data near this step",
            state.step
        )));
    }
    let schedule = Schedule {
        peak: arguments.learning_rate,
        warmup_steps: arguments.warmup_steps,
        steps: run.steps,
        decay: arguments.decay,
    };
    let options = AdamWOptions {
        beta_1: arguments.beta1,
        beta_2: arguments.beta2,
        epsilon: 1e-8,
        weight_decay: arguments.weight_decay,
    };
    let rate = schedule.rate(state.step);
    state.update(variables, &gradients, rate, options, run.threads)?;
    Ok(terms)
}

/// Micro-batches at a time: a GPU takes one after the other, and would only hold the activations of several.
pub(crate) fn gradient_threads(model: &DifferentiableModel, threads: usize) -> usize {
    if model.device().is_cpu() { threads } else { 1 }
}

/// Forgets a finished run. Its output must be complete.
pub fn remove_states(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Failure::read(folder))? {
        let path = entry.map_err(Failure::read(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            std::fs::remove_file(&path).map_err(Failure::write(&path))?;
        }
    }
    Ok(())
}
