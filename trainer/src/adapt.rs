//! `adapt`: supervised fine-tuning. The loss counts the tokens of the completion and the end marker, never the prompt.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Tensor;
use cllm_engine::Checkpoint;
use cllm_engine::differentiable::{DifferentiableModel, ForwardInput, RowLayout, cross_entropy};
use serde_json::{Value, json};

use crate::best::{Check, Merit};
use crate::data::{DatasetArguments, TokenizedExample, tokenized};
use crate::data_order::DataOrder;
use crate::distributed;
use crate::failure::Result;
use crate::fine_tune::{LOSS, Objective, OptimizerArguments, Run, gradient_threads};
use crate::model_folder::StoredDtype;
use crate::parallel::{Terms, split, sum_terms};
use crate::progress::Reporter;
use crate::run_loop::fine_tune;
use crate::run_output::{self, file_digest};
use crate::run_state;

/// Examples of the validation file that are looked at.
const VALIDATION_EXAMPLES: usize = 256;

/// Arguments of `adapt`.
#[derive(Clone, Debug, clap::Args)]
pub struct AdaptArguments {
    /// The checkpoint to start from.
    #[arg(long)]
    pub model: PathBuf,
    /// See [`DatasetArguments`].
    #[command(flatten)]
    pub data: DatasetArguments,
    /// The checkpoint to write; it appears when it is complete.
    #[arg(long)]
    pub output: PathBuf,
    /// Updates.
    #[arg(long, conflicts_with = "epochs", required_unless_present = "epochs", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Passes over the data.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: Option<u64>,
    /// Examples on which the loss is measured now and then, and which so decide over the result (--keep); nothing is learnt from them.
    #[arg(long)]
    pub validation: Option<PathBuf>,
    /// How the weights of the output are stored. By default as those of the model: in 16 bits where it has no more.
    #[arg(long, value_enum)]
    pub dtype: Option<StoredDtype>,
    /// See [`OptimizerArguments`].
    #[command(flatten)]
    pub optimizer: OptimizerArguments,
}

/// Trains and writes the checkpoint; does nothing where it is there already.
pub fn run(arguments: &AdaptArguments, threads: usize, reporter: &mut Reporter) -> Result<()> {
    let place = arguments.optimizer.processes.place()?;
    let _lock = place.lock(&arguments.optimizer.state)?;
    let checkpoint = Checkpoint::open(&arguments.model)?;
    let examples = tokenized(&arguments.data.dataset, &checkpoint, &arguments.data.records, None, threads)?;
    let steps = match (arguments.steps, arguments.epochs) {
        (Some(steps), _) => steps,
        (None, epochs) => {
            (epochs.unwrap_or(1) * examples.len() as u64).div_ceil(u64::from(arguments.optimizer.batch_size))
        }
    };
    let dtype = arguments.dtype.unwrap_or_else(|| StoredDtype::of(&checkpoint));
    let settings = settings(arguments, steps, dtype)?;
    if place.leads() && run_output::is_done(&arguments.output, &settings)? {
        run_state::forget_finished(&arguments.optimizer.state, &settings)?;
        reporter.note(&format!("{} is complete already", arguments.output.display()));
        return distributed::tell_complete(&place, &settings, reporter);
    }
    let validation = match arguments.validation.as_ref().filter(|_| place.leads()) {
        Some(path) => tokenized(path, &checkpoint, &arguments.data.records, Some(VALIDATION_EXAMPLES), threads)?,
        None => Vec::new(),
    };
    let model = arguments.optimizer.model(&checkpoint)?;
    let mut objective = Supervised {
        order: DataOrder::new(arguments.optimizer.seed, examples.len()),
        examples,
        batch_size: arguments.optimizer.batch_size as usize,
        validation,
        measure_every: steps.div_ceil(20).max(50),
        steps,
        threads,
    };
    let (optimizer, output) = (&arguments.optimizer, &arguments.output);
    let run = Run { arguments: optimizer, place: &place, output, steps, settings: &settings, threads };
    fine_tune(&model, &mut objective, &run, reporter, |history| {
        run_output::write(output, &checkpoint, &model, dtype, &settings, history)
    })
}

fn settings(arguments: &AdaptArguments, steps: u64, dtype: StoredDtype) -> Result<Value> {
    let mut settings = arguments.optimizer.settings(steps);
    settings["command"] = json!("adapt");
    settings["model"] = json!(cllm_engine::checkpoint::digest(&arguments.model)?);
    settings["dataset"] = json!(file_digest(&arguments.data.dataset)?);
    arguments.data.records.fields.note(&mut settings);
    settings["dtype"] = json!(dtype);
    arguments.optimizer.keep.note(arguments.validation.as_deref(), &mut settings)?;
    Ok(settings)
}

struct Supervised {
    order: DataOrder,
    examples: Vec<TokenizedExample>,
    batch_size: usize,
    validation: Vec<TokenizedExample>,
    measure_every: u64,
    steps: u64,
    threads: usize,
}

/// Sequences of a micro-batch, and which of their rows predict what.
#[derive(Debug)]
pub struct SupervisedBatch {
    tokens: Vec<u32>,
    rows: Arc<RowLayout>,
    selected: Vec<u32>,
    targets: Vec<u32>,
    /// One over the number of targets of the whole batch.
    weight: f64,
}

impl SupervisedBatch {
    fn new(examples: &[&TokenizedExample], weight: f64) -> Self {
        let (mut tokens, mut rows, mut selected, mut targets) = (Vec::new(), RowLayout::new(), Vec::new(), Vec::new());
        for example in examples {
            let len = example.tokens.len();
            let start = rows.push_sequence(len - 1) as u32;
            tokens.extend_from_slice(&example.tokens[..len - 1]);
            selected.extend((example.prompt_len - 1..len - 1).map(|row| start + row as u32));
            targets.extend_from_slice(&example.tokens[example.prompt_len..]);
        }
        Self { tokens, rows: Arc::new(rows), selected, targets, weight }
    }

    fn input(&self) -> ForwardInput<'_> {
        ForwardInput { tokens: &self.tokens, rows: &self.rows, selected: &self.selected }
    }

    /// The scalar and its value.
    fn loss(&self, logits: &Tensor) -> Result<(Tensor, f64)> {
        let loss = cross_entropy(logits, self.targets.clone(), self.weight)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        Ok((loss, value))
    }
}

fn micro_batches(examples: &[&TokenizedExample]) -> Vec<SupervisedBatch> {
    let targets: usize = examples.iter().map(|example| example.tokens.len() - example.prompt_len).sum();
    let rows: Vec<usize> = examples.iter().map(|example| example.tokens.len() - 1).collect();
    split(&rows).into_iter().map(|range| SupervisedBatch::new(&examples[range], 1.0 / targets as f64)).collect()
}

impl Objective for Supervised {
    type Batch = SupervisedBatch;

    fn batches(&mut self, step: u64) -> Result<Vec<SupervisedBatch>> {
        let indexes = self.order.batch(step, self.batch_size);
        Ok(micro_batches(&indexes.into_iter().map(|index| &self.examples[index]).collect::<Vec<_>>()))
    }

    fn input<'a>(&self, batch: &'a SupervisedBatch) -> ForwardInput<'a> {
        batch.input()
    }

    fn loss(&self, logits: &Tensor, batch: &SupervisedBatch) -> Result<(Tensor, Terms)> {
        let (loss, value) = batch.loss(logits)?;
        Ok((loss, [value, 0.0]))
    }

    fn figures(&self, terms: Terms) -> Vec<(&'static str, f64)> {
        vec![(LOSS, terms[0])]
    }

    fn weight(&self) -> f64 {
        1.0
    }

    fn measure(&mut self, model: &DifferentiableModel, step: u64) -> Result<Option<Check>> {
        if self.validation.is_empty() || (!step.is_multiple_of(self.measure_every) && step != self.steps) {
            return Ok(None);
        }
        let batches = micro_batches(&self.validation.iter().collect::<Vec<_>>());
        let threads = gradient_threads(model, self.threads);
        let sums = sum_terms(&batches, threads, |batch| {
            let (_, value) = batch.loss(&model.constant_logits(batch.input())?)?;
            Ok([value, 0.0])
        })?;
        let loss = sums[0];
        Ok(Some(Check { figures: vec![("validationLoss", loss)], merit: Merit::of_kept_quality(-loss) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_counts_completion_and_end_only() {
        let example = |tokens: &[u32], prompt_len| TokenizedExample { tokens: tokens.to_vec(), prompt_len };
        for (examples, selected, targets) in [
            (vec![example(&[5, 6, 7, 8, 0], 3)], vec![2, 3], vec![8, 0]),
            (vec![example(&[5, 0], 1)], vec![0], vec![0]),
            (vec![example(&[5, 6, 0], 2), example(&[5, 6, 7, 0], 1)], vec![1, 2, 3, 4], vec![0, 6, 7, 0]),
        ] {
            let batch = SupervisedBatch::new(&examples.iter().collect::<Vec<_>>(), 1.0);
            assert_eq!((batch.selected, batch.targets), (selected, targets));
        }
    }
}
