//! Trajectories that follow the weights: those that the next steps learn from are collected anew with the present ones, now and then.
//!
//! The states of a target are soon none that the model in training still goes through. Only the states change: they lead to the answers of
//! the target, as before, since it is these that are to be kept. Each step learns from states of weights that are at most so many steps
//! old, and nothing is collected that no step learns from.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cllm_engine::differentiable::DifferentiableModel;
use rand::Rng;

use super::noise::Choice;
use super::present::Present;
use crate::collect::Again;
use crate::data_order::{DataOrder, random};
use crate::failure::Result;
use crate::trajectories::{Outcome, TrajectoryExample};

/// When and how.
#[derive(Debug)]
pub(super) struct Refresh {
    /// Steps between two times.
    pub every: u64,
    /// All steps of the run.
    pub steps: u64,
    /// Decides where blocks begin, each time anew.
    pub seed: u64,
    /// Tokens of a block.
    pub block_size: NonZeroUsize,
    /// The weights.
    pub present: Present,
    /// Threads of the engine.
    pub threads: usize,
    /// Becomes true when the run shall stop.
    pub interruption: Arc<AtomicBool>,
}

impl Refresh {
    /// Whether it is time to before a step, counted from 0. Before the first one the trajectories are those of the present weights.
    pub(super) fn is_due(&self, step: u64) -> bool {
        step > 0 && step.is_multiple_of(self.every)
    }

    /// The steps that learn from what is collected before this one.
    pub(super) fn window(&self, step: u64) -> Range<u64> {
        step..step.saturating_add(self.every).min(self.steps)
    }

    /// What becomes of examples with the weights before a step, in any order.
    pub(super) fn collect(
        &self,
        model: &DifferentiableModel,
        step: u64,
        examples: &[&TrajectoryExample],
    ) -> Result<Vec<Outcome>> {
        if examples.is_empty() {
            return Ok(Vec::new());
        }
        self.present.with(model, |checkpoint| {
            let again = Again {
                checkpoint,
                block_size: self.block_size,
                seed: random(self.seed, "refresh", step).random(),
                threads: self.threads,
                interruption: Arc::clone(&self.interruption),
            };
            again.collect(examples)
        })
    }
}

/// Indexes of the examples whose recorded states these steps learn from.
pub(super) fn upcoming(
    order: &mut DataOrder,
    batch_size: usize,
    choice: &Choice,
    steps: Range<u64>,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for step in steps {
        let first_visit = step * batch_size as u64;
        let visits = order.batch(step, batch_size).into_iter().zip(first_visit..);
        found.extend(visits.filter(|(_, visit)| choice.is_recorded(*visit)).map(|(index, _)| index));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::noise::{Consistency, NoiseSchedule, States};
    use super::*;

    #[test]
    fn what_is_collected_is_what_the_next_steps_learn_from() {
        let choice = |states| Choice {
            states,
            schedule: NoiseSchedule::Progressive,
            consistency: Consistency::Global,
            block_size: 4,
            visits: 100,
        };
        let seen = |steps: Range<u64>| -> Vec<usize> {
            let mut order = DataOrder::new(7, 20);
            steps.flat_map(|step| order.batch(step, 3)).collect()
        };
        for (steps, batches) in [(4..6, 2), (6..8, 2), (0..7, 7), (6..6, 0)] {
            // all but the first and the last go on in another pass
            let seen = seen(steps.clone());
            assert_eq!(seen.len(), 3 * batches);
            let of = |states| upcoming(&mut DataOrder::new(7, 20), 3, &choice(states), steps.clone());
            let all: BTreeSet<usize> = seen.iter().copied().collect();
            assert_eq!(of(States::Trajectories), all);
            let visits = seen.iter().zip(3 * steps.start..);
            let recorded: BTreeSet<usize> =
                visits.filter(|(_, visit)| visit.is_multiple_of(2)).map(|(index, _)| *index).collect();
            assert_eq!(of(States::Mixed), recorded, "every other visit has made-up states");
        }
    }
}
