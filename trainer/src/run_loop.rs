//! The loop of `adapt` and `train`: batches, gradients, updates, measurements, checkpoints, interruptions. What is learnt is the
//! objective's.

use candle_core::Var;
use cllm_engine::differentiable::DifferentiableModel;

use crate::best::{Best, Keep, Mark};
use crate::distributed::{self, Coordinator, Group, Member, Order, Worker};
use crate::failure::{Failure, Result};
use crate::fine_tune::{LOSS, Objective, Run, gradient_threads};
use crate::history::History;
use crate::optimizer::{OptimizerState, clip, write_values};
use crate::parallel::{Sums, Terms, sum_gradients};
use crate::progress::Reporter;
use crate::record::Record;
use crate::run_state;

/// Trains `model` to the last step, from the newest state of the run where there is one, together with the other processes of the
/// run. Process 0, or the only one, then writes the weights that are kept by `write`, which gets the figures of the whole run, and forgets
/// the state.
pub(crate) fn fine_tune<O: Objective>(
    model: &DifferentiableModel,
    objective: &mut O,
    run: &Run<'_>,
    reporter: &mut Reporter,
    write: impl FnOnce(&History) -> Result<()>,
) -> Result<()> {
    let variables = model.variables();
    let variables: Vec<&Var> = variables.iter().map(|(_, variable)| *variable).collect();
    let (state, record) = begin(model, &variables, run, reporter)?;
    objective.take_refreshed(&record.refreshed)?;
    let mut training = Training { model, variables: &variables, objective, run, state, record };
    match distributed::join(run.place, run.settings, run.output, reporter)? {
        Group::Coordinator(mut coordinator) => {
            lead(&mut training, &mut coordinator, reporter)?;
            training.take_best(reporter)?;
            write(&training.record.history)?;
            run_state::forget(&run.arguments.state)?;
            coordinator.finish(run.place, run.settings, reporter)
        }
        Group::Worker(mut worker) => follow(&mut training, &mut worker),
        Group::Complete => Ok(()),
    }
}

/// Where the run goes on: at its newest state, which process 0 has, or else at the weights of the model.
fn begin(
    model: &DifferentiableModel,
    variables: &[&Var],
    run: &Run<'_>,
    reporter: &Reporter,
) -> Result<(OptimizerState, Record)> {
    let (folder, leads) = (&run.arguments.state, run.place.leads());
    let stored = if leads { run_state::load(folder, model, run.settings)? } else { None };
    let Some((state, record)) = stored else {
        if leads {
            reporter.note(&format!("starting at the beginning: no checkpoint in {}", folder.display()));
        }
        return Ok((OptimizerState::new(variables)?, Record::default()));
    };
    reporter.note(&format!("continuing after step {} of {}", state.step, run.steps));
    state.write_weights(variables)?;
    Ok((state, record))
}

struct Training<'a, O> {
    model: &'a DifferentiableModel,
    variables: &'a [&'a Var],
    objective: &'a mut O,
    run: &'a Run<'a>,
    state: OptimizerState,
    /// Of process 0.
    record: Record,
}

/// What a step gave, the same in all processes.
struct Given {
    terms: Terms,
    gradient_norm: f64,
}

impl Given {
    fn is_finite(&self) -> bool {
        self.gradient_norm.is_finite() && self.terms.iter().all(|term| term.is_finite())
    }
}

/// A run that is interrupted, or has lost a process, keeps what it has done.
fn lead<O: Objective>(
    training: &mut Training<'_, O>,
    coordinator: &mut Coordinator,
    reporter: &mut Reporter,
) -> Result<()> {
    let outcome = lead_to_the_end(training, coordinator, reporter);
    if let Err(failure) = &outcome {
        if matches!(failure, Failure::Interrupted | Failure::Lost(_)) {
            training.save()?;
        }
        coordinator.stop(failure);
    }
    outcome
}

fn lead_to_the_end<O: Objective>(
    training: &mut Training<'_, O>,
    coordinator: &mut Coordinator,
    reporter: &mut Reporter,
) -> Result<()> {
    let (steps, checkpoint_every) = (training.run.steps, training.run.arguments.checkpoint_every_steps);
    let mut due = false;
    coordinator.share_state(&training.state)?;
    coordinator.share_refreshed(&training.record.refreshed)?;
    while training.state.step < steps {
        if reporter.is_interrupted() || coordinator.is_interrupted() {
            return Err(Failure::Interrupted);
        }
        if training.refresh(reporter)? {
            coordinator.share_refreshed(&training.record.refreshed)?;
        }
        coordinator.begin_step()?;
        let given = training.step(coordinator)?;
        training.end_step(&given, reporter)?;
        let step = training.state.step;
        due |= step.is_multiple_of(checkpoint_every);
        let saves = due && step < steps && training.record.watch.is_calm();
        if saves || step == steps {
            coordinator.verify(&training.state.weights)?;
        }
        if saves {
            training.save()?;
            due = false;
        }
    }
    Ok(())
}

fn follow<O: Objective>(training: &mut Training<'_, O>, worker: &mut Worker) -> Result<()> {
    worker.receive_state(&mut training.state)?;
    training.state.write_weights(training.variables)?;
    loop {
        match worker.next_order()? {
            Order::TakeRefreshed(refreshed) => training.objective.take_refreshed(&refreshed)?,
            Order::Step => training.step(worker).map(|_| ())?,
            Order::Verify => worker.tell_checksum(&training.state.weights)?,
            Order::Finish => return Ok(()),
        }
    }
}

impl<O: Objective> Training<'_, O> {
    fn save(&self) -> Result<()> {
        run_state::save(&self.run.arguments.state, self.model, &self.state, &self.record, self.run.settings)
    }

    /// Refreshes what the next steps learn from where it is time to, and says whether it was. Nothing is kept of a refresh that does not come
    /// to its end: it follows from the weights, and is made again.
    fn refresh(&mut self, reporter: &Reporter) -> Result<bool> {
        let is_due = self.objective.refresh_is_due(self.state.step);
        if is_due {
            self.record.refreshed = self.objective.refresh(self.model, self.state.step, reporter)?;
        }
        Ok(is_due)
    }

    /// Makes the update of a step, or leaves it out where its numbers are not finite: all processes have the same ones.
    fn step(&mut self, member: &mut impl Member) -> Result<Given> {
        let (model, objective, run, state) = (self.model, &mut *self.objective, self.run, &mut self.state);
        let arguments = run.arguments;
        let batches = objective.batches(state.step)?;
        let threads = gradient_threads(model, run.threads);
        let differentiate = |batch: &O::Batch| {
            model.gradients(objective.input(batch), arguments.activations(), |logits| objective.loss(logits, batch))
        };
        let own = sum_gradients(&batches, &member.share(), self.variables, threads, differentiate)?;
        let Sums { mut gradients, terms } = member.exchange(own)?;
        let given = Given { terms, gradient_norm: clip(&mut gradients, arguments.clip) };
        if given.is_finite() {
            let rate = arguments.schedule(run.steps).rate(state.step);
            state.update(self.variables, &gradients, rate, arguments.adamw(), run.threads)?;
        } else {
            state.step += 1;
        }
        Ok(given)
    }

    /// Takes what a step gave into the record, and measures where it is time to. Fails where the run should not go on.
    fn end_step(&mut self, given: &Given, reporter: &mut Reporter) -> Result<()> {
        let (step, steps) = (self.state.step, self.run.steps);
        self.judge(given, reporter)?;
        let check = self.objective.measure(self.model, step)?;
        if let Some(check) = check.as_ref().filter(|_| self.run.arguments.keep == Keep::Best) {
            Best::challenge(&mut self.record.best, Mark { step, merit: check.merit }, &self.state.weights);
        }
        self.record.history.end_step(step, steps, check.map_or_else(Vec::new, |check| check.figures));
        if self.objective.refresh_is_due(step) {
            self.record.refreshed = Vec::new();
        }
        reporter.update(step, steps, &self.record.shown(step));
        Ok(())
    }

    fn judge(&mut self, given: &Given, reporter: &Reporter) -> Result<()> {
        let (step, Record { history, watch, .. }) = (self.state.step, &mut self.record);
        let figures = self.objective.figures(given.terms);
        if given.is_finite() {
            history.add_losses(figures);
            let loss = history.loss(LOSS).unwrap_or_default() / self.objective.weight();
            watch.updated(step, loss, self.run.arguments.divergence_steps)?;
        } else {
            let loss = figures.iter().find(|(name, _)| *name == LOSS).map_or(f64::NAN, |(_, loss)| *loss);
            watch.left_out(step, loss, given.gradient_norm)?;
            reporter.note(&format!(
                "the update of step {step} is left out: its loss ({loss}) or the length of its gradient ({}) is not a finite number",
                given.gradient_norm
            ));
        }
        Ok(())
    }

    /// Puts the weights of the best check into the model, where checks decide, and says which one it is.
    fn take_best(&mut self, reporter: &Reporter) -> Result<()> {
        let Record { history, best, .. } = &mut self.record;
        let Some(Best { mark, weights }) = best else { return Ok(()) };
        write_values(weights, self.variables)?;
        let figures = history.keep(mark.step).iter().map(|(name, value)| format!("{name} {value:.4}"));
        let figures = figures.collect::<Vec<_>>().join(", ");
        reporter
            .note(&format!("the weights after step {} of {} become the result: {figures}", mark.step, self.run.steps));
        Ok(())
    }
}
