//! The consistency objective: forward divergence from the model's own distribution on the fixed point (or on the next state), and
//! cross-entropy on the fixed point.

use candle_core::Tensor;
use cllm_engine::differentiable::{DifferentiableModel, ForwardInput, cross_entropy, forward_divergence};

use super::noise::Choice;
use super::packing::{PackedBatch, PackedExample};
use super::probe::Probe;
use crate::best::Check;
use crate::data_order::{DataOrder, random};
use crate::failure::Result;
use crate::fine_tune::{LOSS, Objective};
use crate::parallel::{Terms, split};
use crate::trajectories::TrajectoryExample;

/// What a run learns from and how.
#[derive(Debug)]
pub(super) struct ConsistencyObjective {
    /// Seed of states and order.
    pub seed: u64,
    /// Which examples a step sees.
    pub order: DataOrder,
    /// The trajectories.
    pub examples: Vec<TrajectoryExample>,
    /// Examples of a step.
    pub batch_size: usize,
    /// Which states.
    pub choice: Choice,
    /// Weight of the cross-entropy.
    pub autoregressive_weight: f64,
    /// Checks speed and answers now and then.
    pub probe: Option<Probe>,
}

/// A micro-batch with the weights of its terms: one over the rows of the whole batch.
#[derive(Debug)]
pub(super) struct WeightedBatch {
    packed: PackedBatch,
    divergence_weight: f64,
    supervised_weight: f64,
}

impl Objective for ConsistencyObjective {
    type Batch = WeightedBatch;

    fn batches(&mut self, step: u64) -> Result<Vec<WeightedBatch>> {
        let first_visit = step * self.batch_size as u64;
        let indexes = self.order.batch(step, self.batch_size);
        let packed: Vec<PackedExample<'_>> = indexes
            .into_iter()
            .zip(first_visit..)
            .map(|(index, visit)| {
                let example = &self.examples[index];
                let states = self.choice.choose(example, visit, &mut random(self.seed, "states", visit));
                PackedExample::new(example, &states)
            })
            .collect();
        let one_over = |rows: usize| 1.0 / rows.max(1) as f64;
        let divergence_weight = one_over(packed.iter().map(PackedExample::divergence_rows).sum());
        let supervised_weight = one_over(packed.iter().map(PackedExample::supervised_rows).sum());
        let rows: Vec<usize> = packed.iter().map(PackedExample::rows).collect();
        let pack = |range| {
            Ok(WeightedBatch { packed: PackedBatch::new(&packed[range])?, divergence_weight, supervised_weight })
        };
        split(&rows).into_iter().map(pack).collect()
    }

    fn input<'a>(&self, batch: &'a WeightedBatch) -> ForwardInput<'a> {
        let PackedBatch { tokens, rows, selected, .. } = &batch.packed;
        ForwardInput { tokens, rows, selected }
    }

    fn loss(&self, logits: &Tensor, batch: &WeightedBatch) -> Result<(Tensor, Terms)> {
        let packed = &batch.packed;
        let (teaching_rows, learning_rows) = (packed.teaching_rows(), packed.teachers.len());
        let clean = logits.narrow(0, 0, packed.targets.len())?.contiguous()?;
        let supervised = cross_entropy(&clean, packed.targets.clone(), batch.supervised_weight)?;
        let supervised_value = f64::from(supervised.to_scalar::<f32>()?);
        let supervised = (supervised * self.autoregressive_weight)?;
        if learning_rows == 0 {
            return Ok((supervised, [0.0, supervised_value]));
        }
        let teaching = logits.narrow(0, 0, teaching_rows)?.contiguous()?;
        let learning = logits.narrow(0, teaching_rows, learning_rows)?.contiguous()?;
        let divergence = forward_divergence(&learning, &teaching, packed.teachers.clone(), batch.divergence_weight)?;
        let divergence_value = f64::from(divergence.to_scalar::<f32>()?);
        Ok(((divergence + supervised)?, [divergence_value, supervised_value]))
    }

    fn figures(&self, terms: Terms) -> Vec<(&'static str, f64)> {
        let [divergence, supervised] = terms;
        vec![
            (LOSS, divergence + self.autoregressive_weight * supervised),
            ("consistencyLoss", divergence),
            ("autoregressiveLoss", supervised),
        ]
    }

    fn weight(&self) -> f64 {
        1.0 + self.autoregressive_weight
    }

    fn measure(&mut self, model: &DifferentiableModel, step: u64) -> Result<Option<Check>> {
        self.probe.as_mut().filter(|probe| probe.is_due(step)).map(|probe| probe.check(model)).transpose()
    }
}
