//! The loop that `adapt` and `train` share: batches, gradients, updates, checkpoints, interruptions. What is learnt is the objective's.

use std::path::{Path, PathBuf};

use candle_core::{Tensor, Var};
use cllm_engine::differentiable::{Activations, DifferentiableModel, ForwardInput};
use cllm_engine::{Checkpoint, Device};
use serde_json::{Value, json};

use crate::distributed::{self, Coordinator, Group, Member, Order, Place, ProcessArguments, Worker};
use crate::failure::{Failure, Result};
use crate::history::History;
use crate::method::MethodArguments;
use crate::model_folder;
use crate::optimizer::{AdamWOptions, Decay, OptimizerState, Schedule, clip};
use crate::parallel::{Sums, Terms, sum_gradients};
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

    fn activations(&self) -> Activations {
        if self.gradient_checkpointing { Activations::Recompute } else { Activations::Keep }
    }

    fn schedule(&self, steps: u64) -> Schedule {
        Schedule { peak: self.learning_rate, warmup_steps: self.warmup_steps, steps, decay: self.decay }
    }

    fn adamw(&self) -> AdamWOptions {
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

    /// Called after every update in process 0; may measure now and then, and gives figures that stay until the next measurement.
    fn measure(&mut self, model: &DifferentiableModel, step: u64) -> Result<Vec<(&'static str, f64)>>;
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

/// Trains `model` to the last step, from the newest state of the run where there is one, together with the other processes of the
/// run. Process 0, or the only one, then writes the output by `write`, which gets the figures of the whole run, and forgets the state.
pub(crate) fn fine_tune<O: Objective>(
    model: &DifferentiableModel,
    objective: &mut O,
    run: &Run<'_>,
    reporter: &mut Reporter,
    write: impl FnOnce(&History) -> Result<()>,
) -> Result<()> {
    let variables = model.variables();
    let variables: Vec<&Var> = variables.iter().map(|(_, variable)| *variable).collect();
    let state = OptimizerState::new(&variables)?;
    let mut training = Training { model, variables: &variables, objective, run, state };
    let mut history = if run.place.leads() { training.resume(reporter)? } else { History::default() };
    match distributed::join(run.place, run.settings, run.output, reporter)? {
        Group::Coordinator(mut coordinator) => {
            lead(&mut training, &mut history, &mut coordinator, reporter)?;
            write(&history)?;
            run_state::forget(&run.arguments.state)?;
            coordinator.finish(run.place, run.settings, reporter)
        }
        Group::Worker(mut worker) => follow(&mut training, &mut worker),
        Group::Complete => Ok(()),
    }
}

struct Training<'a, O> {
    model: &'a DifferentiableModel,
    variables: &'a [&'a Var],
    objective: &'a mut O,
    run: &'a Run<'a>,
    state: OptimizerState,
}

/// A run that is interrupted, or has lost a process, keeps what it has done.
fn lead<O: Objective>(
    training: &mut Training<'_, O>,
    history: &mut History,
    coordinator: &mut Coordinator,
    reporter: &mut Reporter,
) -> Result<()> {
    let outcome = lead_to_the_end(training, history, coordinator, reporter);
    if let Err(failure) = &outcome {
        if matches!(failure, Failure::Interrupted | Failure::Lost(_)) {
            training.save(history)?;
        }
        coordinator.stop(failure);
    }
    outcome
}

fn lead_to_the_end<O: Objective>(
    training: &mut Training<'_, O>,
    history: &mut History,
    coordinator: &mut Coordinator,
    reporter: &mut Reporter,
) -> Result<()> {
    let (steps, checkpoint_every) = (training.run.steps, training.run.arguments.checkpoint_every_steps);
    coordinator.share_state(&training.state)?;
    while training.state.step < steps {
        if reporter.is_interrupted() || coordinator.is_interrupted() {
            return Err(Failure::Interrupted);
        }
        coordinator.begin_step()?;
        let terms = training.step(coordinator)?;
        let step = training.state.step;
        let measured = training.objective.measure(training.model, step)?;
        history.add(step, steps, training.objective.figures(terms), measured);
        reporter.update(step, steps, &history.shown(step));
        if step == steps || step.is_multiple_of(checkpoint_every) {
            coordinator.verify(&training.state.weights)?;
        }
        if step < steps && step.is_multiple_of(checkpoint_every) {
            training.save(history)?;
        }
    }
    Ok(())
}

fn follow<O: Objective>(training: &mut Training<'_, O>, worker: &mut Worker) -> Result<()> {
    worker.receive_state(&mut training.state)?;
    training.state.write_weights(training.variables)?;
    loop {
        match worker.next_order()? {
            Order::Step => training.step(worker).map(|_| ())?,
            Order::Verify => worker.tell_checksum(&training.state.weights)?,
            Order::Finish => return Ok(()),
        }
    }
}

impl<O: Objective> Training<'_, O> {
    /// From the newest state of the run where there is one.
    fn resume(&mut self, reporter: &Reporter) -> Result<History> {
        let run = self.run;
        let Some((state, history)) = run_state::load(&run.arguments.state, self.model, run.settings)? else {
            reporter.note(&format!("starting at the beginning: no checkpoint in {}", run.arguments.state.display()));
            return Ok(History::default());
        };
        reporter.note(&format!("continuing after step {} of {}", state.step, run.steps));
        state.write_weights(self.variables)?;
        self.state = state;
        Ok(history)
    }

    fn save(&self, history: &History) -> Result<()> {
        run_state::save(&self.run.arguments.state, self.model, &self.state, history, self.run.settings)
    }

    fn step(&mut self, member: &mut impl Member) -> Result<Terms> {
        let (model, objective, run, state) = (self.model, &mut *self.objective, self.run, &mut self.state);
        let arguments = run.arguments;
        let batches = objective.batches(state.step)?;
        let threads = gradient_threads(model, run.threads);
        let differentiate = |batch: &O::Batch| {
            model.gradients(objective.input(batch), arguments.activations(), |logits| objective.loss(logits, batch))
        };
        let own = sum_gradients(&batches, &member.share(), self.variables, threads, differentiate)?;
        let Sums { mut gradients, terms } = member.exchange(own)?;
        let norm = clip(&mut gradients, arguments.clip);
        if !norm.is_finite() || !terms.iter().all(|term| term.is_finite()) {
            return Err(Failure::BadInput(format!(
                "the loss or its gradient is not a finite number at step {}; lower --learning-rate, or check the data near this step",
                state.step
            )));
        }
        let rate = arguments.schedule(run.steps).rate(state.step);
        state.update(self.variables, &gradients, rate, arguments.adamw(), run.threads)?;
        Ok(terms)
    }
}

/// Micro-batches at a time: a GPU takes one after the other, and would only hold the activations of several.
pub(crate) fn gradient_threads(model: &DifferentiableModel, threads: usize) -> usize {
    if model.device().is_cpu() { threads } else { 1 }
}
