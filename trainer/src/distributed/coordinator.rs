//! Process 0 of a run: it says what comes next, and sums in the order of the processes. With no workers all of this is nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::arguments::Place;
use super::connection::Connection;
use super::protocol::{self, Message};
use super::reception::{dismiss, say_finished};
use super::{Member, lost};
use crate::failure::{Failure, Result};
use crate::optimizer::{OptimizerState, Values};
use crate::parallel::{PartSums, Share, Sums};
use crate::progress::Reporter;
use crate::trajectories::NamedColumns;

/// Process 0 with its connections to the processes 1, 2, …
#[derive(Debug)]
pub(crate) struct Coordinator {
    workers: Vec<Connection>,
    interrupted: bool,
}

impl Coordinator {
    /// In the order of their indexes.
    pub(super) fn new(workers: Vec<Connection>) -> Self {
        Self { workers, interrupted: false }
    }

    /// Gives all the state from which they go on.
    pub(crate) fn share_state(&mut self, state: &OptimizerState) -> Result<()> {
        each(&mut self.workers, |worker| {
            worker.send(&Message::State { step: state.step })?;
            [&state.weights, &state.first, &state.second].into_iter().try_for_each(|values| worker.send_values(values))
        })
    }

    /// Gives all what was refreshed; nothing where nothing was.
    pub(crate) fn share_refreshed(&mut self, refreshed: &NamedColumns) -> Result<()> {
        if refreshed.is_empty() || self.workers.is_empty() {
            return Ok(());
        }
        let columns: Vec<_> = refreshed.iter().map(|(name, numbers)| (name.clone(), numbers.len())).collect();
        let bits: Values = refreshed.iter().map(|(_, numbers)| to_bits(numbers)).collect();
        each(&mut self.workers, |worker| {
            worker.send(&Message::Refreshed { columns: columns.clone() })?;
            worker.send_values(&bits)
        })
    }

    /// Lets all compute the gradients of the next step.
    pub(crate) fn begin_step(&mut self) -> Result<()> {
        each(&mut self.workers, |worker| worker.send(&Message::Step))
    }

    /// Whether another process was told to stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Fails where the weights of a process are not these, which nothing but a fault of the machine or another program explains.
    pub(crate) fn verify(&mut self, weights: &Values) -> Result<()> {
        each(&mut self.workers, |worker| worker.send(&Message::Verify))?;
        if self.workers.is_empty() {
            return Ok(());
        }
        let expected = protocol::checksum(weights).map_err(Failure::engine)?;
        let mut found = Vec::with_capacity(self.workers.len());
        each(&mut self.workers, |worker| {
            found.push(checksum_of(worker)?);
            Ok(())
        })?;
        match found.iter().position(|found| *found != expected) {
            Some(position) => Err(Failure::Apart(format!(
                "the weights of process {} differ from those of process 0; give all processes the same cllm-trainer and sound machines, \
                 and start them again: the run goes on from its last checkpoint",
                position + 1
            ))),
            None => Ok(()),
        }
    }

    /// Tells all why the run ends before it is done. Who does not hear it finds the connection closed.
    pub(crate) fn stop(&self, failure: &Failure) {
        let message = match failure {
            Failure::Interrupted => Message::Interrupted,
            Failure::Lost(reason) => Message::Stopped { reason: reason.clone() },
            Failure::BadInput(_) | Failure::Diverged(_) => Message::Failed { reason: failure.to_string() },
            other => Message::Stopped { reason: other.to_string() },
        };
        for worker in &self.workers {
            let _ = worker.send(&message);
        }
    }

    /// Tells all that the output is complete, also those that are started again meanwhile.
    pub(crate) fn finish(self, place: &Place, settings: &Value, reporter: &Reporter) -> Result<()> {
        let mut missing = BTreeSet::new();
        for (index, mut worker) in (1..).zip(self.workers) {
            if say_finished(&mut worker).is_err() {
                missing.insert(index);
            }
        }
        dismiss(place, settings, missing, reporter)
    }
}

impl Member for Coordinator {
    fn share(&self) -> Share {
        Share::of(0, self.workers.len() + 1)
    }

    fn exchange(&mut self, own: PartSums) -> Result<Sums> {
        let mut sum = own.total();
        let mut interrupted = false;
        each(&mut self.workers, |worker| {
            interrupted |= is_interrupted_when_ready(worker)?;
            worker.send_sum(&sum)?;
            receive_sum(worker, &mut sum)
        })?;
        self.interrupted |= interrupted;
        // the last one has made the total
        let others = self.workers.len().saturating_sub(1);
        each(&mut self.workers[..others], |worker| worker.send_sum(&sum))?;
        Ok(sum)
    }
}

/// Values with the bits of numbers.
fn to_bits(numbers: &[u32]) -> Vec<f32> {
    numbers.iter().map(|&number| f32::from_bits(number)).collect()
}

fn each(workers: &mut [Connection], mut act: impl FnMut(&mut Connection) -> std::io::Result<()>) -> Result<()> {
    for (index, worker) in (1..).zip(workers) {
        act(worker).map_err(|error| lost(index, &error))?;
    }
    Ok(())
}

fn is_interrupted_when_ready(worker: &mut Connection) -> std::io::Result<bool> {
    match worker.receive()? {
        Message::Ready { interrupted } => Ok(interrupted),
        other => Err(protocol::out_of_turn(&other)),
    }
}

fn receive_sum(worker: &mut Connection, sum: &mut Sums) -> std::io::Result<()> {
    match worker.receive()? {
        Message::Sum { terms } => sum.terms = terms.map(f64::from_bits),
        other => return Err(protocol::out_of_turn(&other)),
    }
    worker.receive_values(&mut sum.gradients, |_, new| new)
}

fn checksum_of(worker: &mut Connection) -> std::io::Result<String> {
    match worker.receive()? {
        Message::Checksum { checksum } => Ok(checksum),
        other => Err(protocol::out_of_turn(&other)),
    }
}
