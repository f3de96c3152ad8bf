//! The consistency objective: forward divergence from the model's own distribution on the fixed point (or on the next state), and on the
//! fixed point cross-entropy, or forward divergence from the target's distribution.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::Tensor;
use cllm_engine::differentiable::{DifferentiableModel, ForwardInput, cross_entropy, forward_divergence};

use super::noise::Choice;
use super::packing::{PackedBatch, PackedExample};
use super::probe::Probe;
use super::refresh::{Refresh, upcoming};
use crate::best::Check;
use crate::data_order::{DataOrder, random};
use crate::failure::{Failure, Result};
use crate::fine_tune::{LOSS, Objective};
use crate::parallel::{Terms, split};
use crate::progress::Reporter;
use crate::trajectories::{Counts, NamedColumns, Outcome, TrajectoryExample, from_columns, to_columns};

/// What a run learns from and how.
#[derive(Debug)]
pub(super) struct ConsistencyObjective {
    /// Seed of states and order.
    pub seed: u64,
    /// Which examples a step sees.
    pub order: DataOrder,
    /// The trajectories that were collected before the run.
    pub examples: Vec<TrajectoryExample>,
    /// Collects some anew now and then.
    pub refresh: Option<Refresh>,
    /// Those that stand for the ones of the same line.
    pub refreshed: BTreeMap<u32, TrajectoryExample>,
    /// Examples of a step.
    pub batch_size: usize,
    /// Which states.
    pub choice: Choice,
    /// Weight of what keeps the answers.
    pub autoregressive_weight: f64,
    /// The target, where its distributions are the labels of the answers; the tokens are them without.
    pub target: Option<DifferentiableModel>,
    /// Checks speed and answers now and then.
    pub probe: Option<Probe>,
}

impl ConsistencyObjective {
    /// The newest trajectories of an example.
    fn example(&self, index: usize) -> &TrajectoryExample {
        let collected = &self.examples[index];
        self.refreshed.get(&collected.index).unwrap_or(collected)
    }

    /// What keeps the answers, before its weight. `clean`: the logits of the rows that predict them.
    fn supervised(&self, clean: &Tensor, batch: &WeightedBatch) -> Result<Tensor> {
        let weight = batch.supervised_weight;
        let (Some(target), Some(answers)) = (&self.target, &batch.answers) else {
            return Ok(cross_entropy(clean, batch.packed.targets.clone(), weight)?);
        };
        let labels = target.constant_logits(input(answers))?;
        Ok(forward_divergence(clean, &labels, (0..answers.targets.len() as u32).collect(), weight)?)
    }
}

fn input(packed: &PackedBatch) -> ForwardInput<'_> {
    let PackedBatch { tokens, rows, selected, .. } = packed;
    ForwardInput { tokens, rows, selected }
}

/// A micro-batch with the weights of its terms: one over the rows of the whole batch.
#[derive(Debug)]
pub(super) struct WeightedBatch {
    packed: PackedBatch,
    /// Its examples without states, where the target is asked for its distributions.
    answers: Option<PackedBatch>,
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
                let example = self.example(index);
                let states = self.choice.choose(example, visit, &mut random(self.seed, "states", visit));
                PackedExample::new(example, &states)
            })
            .collect();
        let one_over = |rows: usize| 1.0 / rows.max(1) as f64;
        let divergence_weight = one_over(packed.iter().map(PackedExample::divergence_rows).sum());
        let supervised_weight = one_over(packed.iter().map(PackedExample::supervised_rows).sum());
        let rows: Vec<usize> = packed.iter().map(PackedExample::rows).collect();
        let pack = |range: Range<usize>| {
            let examples = &packed[range];
            let alone = || PackedBatch::new(&examples.iter().map(PackedExample::without_states).collect::<Vec<_>>());
            let answers = self.target.as_ref().map(|_| alone()).transpose()?;
            Ok(WeightedBatch { packed: PackedBatch::new(examples)?, answers, divergence_weight, supervised_weight })
        };
        split(&rows).into_iter().map(pack).collect()
    }

    fn input<'a>(&self, batch: &'a WeightedBatch) -> ForwardInput<'a> {
        input(&batch.packed)
    }

    fn loss(&self, logits: &Tensor, batch: &WeightedBatch) -> Result<(Tensor, Terms)> {
        let packed = &batch.packed;
        let (teaching_rows, learning_rows) = (packed.teaching_rows(), packed.teachers.len());
        let clean = logits.narrow(0, 0, packed.targets.len())?.contiguous()?;
        let supervised = self.supervised(&clean, batch)?;
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

    fn refresh_is_due(&self, step: u64) -> bool {
        self.refresh.as_ref().is_some_and(|refresh| refresh.is_due(step))
    }

    fn refresh(&mut self, model: &DifferentiableModel, step: u64, reporter: &Reporter) -> Result<NamedColumns> {
        let Some(refresh) = &self.refresh else { return Ok(NamedColumns::new()) };
        let upcoming = upcoming(&mut self.order, self.batch_size, &self.choice, refresh.window(step));
        let examples: Vec<&TrajectoryExample> = upcoming.into_iter().map(|index| &self.examples[index]).collect();
        let (mut counts, mut refreshed) = (Counts::default(), BTreeMap::new());
        for outcome in refresh.collect(model, step, &examples)? {
            counts.note(&outcome);
            if let Outcome::Kept { example, .. } = outcome {
                refreshed.insert(example.index, example);
            }
        }
        reporter.note(&format!(
            "the trajectories of {} prompts are collected anew with the weights after step {step}: {:.2} tokens a forward",
            counts.examples,
            counts.tokens_per_forward()
        ));
        let columns = to_columns(&refreshed.values().collect::<Vec<_>>());
        self.refreshed = refreshed;
        Ok(columns)
    }

    fn take_refreshed(&mut self, refreshed: &NamedColumns) -> Result<()> {
        let examples = from_columns(refreshed).map_err(|problem| {
            Failure::Apart(format!(
                "the refreshed trajectories cannot be read: {problem}; give all processes the same cllm-trainer"
            ))
        })?;
        self.refreshed = examples.into_iter().map(|example| (example.index, example)).collect();
        Ok(())
    }

    fn measure(&mut self, model: &DifferentiableModel, step: u64) -> Result<Option<Check>> {
        self.probe.as_mut().filter(|probe| probe.is_due(step)).map(|probe| probe.check(model)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use cllm_engine::JacobiTrajectory;

    use super::super::noise::{Consistency, NoiseSchedule, States};
    use super::*;

    /// Prompt 50, generation 1 2 and the end marker 0, after this draft.
    fn example(index: u32, draft: u32) -> TrajectoryExample {
        let blocks = vec![JacobiTrajectory { position: 0, states: vec![vec![draft; 3], vec![1, 2, 0]] }];
        TrajectoryExample { index, tokens: vec![50, 1, 2, 0], prompt_len: 1, blocks }
    }

    fn objective() -> ConsistencyObjective {
        ConsistencyObjective {
            seed: 1,
            order: DataOrder::new(1, 2),
            examples: vec![example(7, 60), example(9, 60)],
            refresh: None,
            refreshed: BTreeMap::new(),
            batch_size: 2,
            choice: Choice {
                states: States::Trajectories,
                schedule: NoiseSchedule::Progressive,
                consistency: Consistency::Global,
                block_size: 3,
                visits: 8,
            },
            autoregressive_weight: 1.0,
            target: None,
            probe: None,
        }
    }

    /// How often a step has a token among its inputs.
    fn count(objective: &mut ConsistencyObjective, token: u32) -> usize {
        let batches = objective.batches(0).unwrap();
        batches.iter().flat_map(|batch| &batch.packed.tokens).filter(|found| **found == token).count()
    }

    #[test]
    fn refreshed_trajectories_are_learnt_from_until_others_are() {
        let mut objective = objective();
        let counts = |objective: &mut ConsistencyObjective| [60, 61, 62].map(|draft| count(objective, draft));
        // the last token of a state is no input
        assert_eq!(counts(&mut objective), [4, 0, 0]);
        objective.take_refreshed(&to_columns(&[&example(9, 61)])).unwrap();
        assert_eq!(counts(&mut objective), [2, 2, 0], "of one line");
        objective.take_refreshed(&to_columns(&[&example(7, 62)])).unwrap();
        assert_eq!(counts(&mut objective), [2, 0, 2], "of the other");
        objective.take_refreshed(&NamedColumns::new()).unwrap();
        assert_eq!(counts(&mut objective), [4, 0, 0]);
        let said = objective.take_refreshed(&vec![("tokens".to_owned(), vec![1])]).unwrap_err().to_string();
        assert!(said.contains("it has no column"), "{said}");
    }
}
