//! The stage `evaluate` from arguments to a folder with weights and report.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cllm_crds::report::{
    ArmCheckpoint, BlockSizePoint, CheckpointSummary, Conditions, ForwardCost, PromptResult, REPORT_VERSION, Report,
};
use cllm_engine::{Checkpoint, ComputeOptions, Generation, Model, Workspace, forward_cost};
use rand::seq::SliceRandom;

use super::arms::{ArmKind, Contestants, MeasuredArm, Totals, prompt_arm, ratio};
use super::intervals::intervals;
use super::metric::{Judge, Metric, Reference};
use super::page::page;
use super::report::{quality, speedup};
use super::stored::{Evaluated, REPORT, evaluated, existing, folder};
use crate::data::{self, Example, RecordArguments};
use crate::data_order::random;
use crate::failure::{Failure, Result};
use crate::history::Point;
use crate::progress::{Reporter, now};
use crate::run_output::HISTORY;
use crate::storage::{self, FolderLock};

/// Block sizes of the curve.
const BLOCK_SIZES: [usize; 9] = [2, 3, 4, 6, 8, 12, 16, 24, 32];
/// Prompts of the curve, at most.
const CURVE_PROMPTS: usize = 100;
/// Rows of the forwards that are timed.
const COST_ROWS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
const COST_REPETITIONS: usize = 50;
/// The report for people, beside the one for programs.
const PAGE: &str = "report.html";

/// Arguments of `evaluate`.
#[derive(Clone, Debug, clap::Args)]
pub struct EvaluateArguments {
    /// The model before training.
    #[arg(long)]
    pub target: PathBuf,
    /// The model after training.
    #[arg(long)]
    pub model: PathBuf,
    /// Held-out examples: JSONL (.gz, .zst) or Parquet.
    #[arg(long)]
    pub dataset: PathBuf,
    /// See [`RecordArguments`].
    #[command(flatten)]
    pub records: RecordArguments,
    /// How answers are judged.
    #[arg(long, value_enum, default_value_t = Metric::ExactMatch)]
    pub metric: Metric,
    /// The sqlite database of the metric `SqlExecution`.
    #[arg(long)]
    pub database: Option<PathBuf>,
    /// Examples to measure, chosen by the seed.
    #[arg(long, default_value = "2000")]
    pub prompts: NonZeroUsize,
    /// Rows of a forward of the Jacobi arms.
    #[arg(long, default_value = "16")]
    pub block_size: NonZeroUsize,
    /// Most tokens of an answer.
    #[arg(long, default_value = "128")]
    pub max_new_tokens: NonZeroUsize,
    /// The result goes to a folder in this one that is named by its digest.
    #[arg(long)]
    pub output: PathBuf,
    /// How --output is called outside, such as `pvc://models/text2sql`; its path where it is not given.
    #[arg(long)]
    pub output_uri: Option<String>,
    /// Chooses the examples.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Measures and writes; reads the report where it is there already.
pub fn run(arguments: &EvaluateArguments, threads: usize, reporter: &mut Reporter) -> Result<Evaluated> {
    let _lock = FolderLock::take(&arguments.output)?;
    let digest = cllm_engine::checkpoint::digest(&arguments.model)?;
    let target_digest = cllm_engine::checkpoint::digest(&arguments.target)?;
    let folder = folder(&arguments.output, &digest);
    let report = if folder.exists() {
        reporter.note(&format!("{} is complete already", folder.display()));
        existing(&folder, &target_digest)?
    } else {
        let report = Evaluation::new(arguments, threads)?.measure(&digest, &target_digest, reporter)?;
        write(&folder, &arguments.model, &report)?;
        report
    };
    evaluated(report, &arguments.output, arguments.output_uri.as_deref(), digest)
}

fn write(folder: &Path, model: &Path, report: &Report) -> Result<()> {
    storage::write_folder(folder, |inside| {
        for entry in fs::read_dir(model).map_err(Failure::read(model))? {
            let path = entry.map_err(Failure::read(model))?.path();
            let name = path.file_name().unwrap_or_default().to_owned();
            if path.is_file() && !name.to_string_lossy().starts_with('.') {
                let copy = inside.join(name);
                fs::copy(&path, &copy).map_err(Failure::write(&copy))?;
            }
        }
        let page = page(report, &history(model))?;
        storage::write_bytes(&inside.join(PAGE), page.as_bytes())?;
        let text = serde_json::to_string_pretty(report).map_err(Failure::engine)?;
        storage::write_bytes(&inside.join(REPORT), text.as_bytes())
    })
}

/// The figures of the training, where it left them.
fn history(model: &Path) -> Vec<Point> {
    let text = fs::read(model.join(HISTORY)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

struct Evaluation<'a> {
    arguments: &'a EvaluateArguments,
    target: Checkpoint,
    cllm: Checkpoint,
    contestants: Contestants,
    judge: Judge,
    /// Lines and examples.
    examples: Vec<(u32, Example)>,
}

impl<'a> Evaluation<'a> {
    fn new(arguments: &'a EvaluateArguments, threads: usize) -> Result<Self> {
        let (target, cllm) = (Checkpoint::open(&arguments.target)?, Checkpoint::open(&arguments.model)?);
        let options = ComputeOptions { threads, ..ComputeOptions::default() };
        let load = |checkpoint: &Checkpoint| Model::load(checkpoint, options).map_err(Failure::engine);
        let contestants =
            Contestants { target: load(&target)?, cllm: load(&cllm)?, max_new_tokens: arguments.max_new_tokens.get() };
        let judge = Judge::new(arguments.metric, arguments.database.as_deref())?;
        let examples = choose(arguments, &target)?;
        Ok(Self { arguments, target, cllm, contestants, judge, examples })
    }

    fn measure(&self, digest: &str, target_digest: &str, reporter: &mut Reporter) -> Result<Report> {
        let mut workspace = Workspace::new(&self.contestants.target);
        let curve = self.curve(&mut workspace, reporter)?;
        let fastest = curve.iter().max_by(|a, b| a.decode_tokens_per_second.total_cmp(&b.decode_tokens_per_second));
        let best = fastest.map_or(1, |point| point.block_size);
        let (arms, prompts) = self.all(&kinds(self.arguments.block_size, best), &mut workspace, reporter)?;
        let is_jacobi = |kind: &ArmKind| *kind == ArmKind::jacobi(ArmCheckpoint::Cllm, self.arguments.block_size);
        let histogram =
            arms.iter().find(|(kind, _)| is_jacobi(kind)).map(|(_, totals)| totals.accepted_len_histogram.clone());
        let conditions = self.conditions();
        let hardware =
            format!("{}, {} threads, {}", conditions.hardware, conditions.threads, conditions.instruction_set);
        let kinds: Vec<ArmKind> = arms.iter().map(|(kind, _)| *kind).collect();
        Ok(Report {
            version: REPORT_VERSION,
            created_at: now(),
            target: summary(target_digest, &self.target),
            cllm: summary(digest, &self.cllm),
            speedup: speedup(&arms, conditions.block_size, best, hardware),
            quality: quality(&arms, self.arguments.metric.name()),
            intervals: Some(intervals(&prompts, &kinds, conditions.block_size, best, self.arguments.seed)),
            conditions,
            arms: arms.iter().map(|(kind, totals)| totals.arm(*kind)).collect(),
            forward_cost: costs(&self.contestants.cllm),
            block_sizes: curve,
            accepted_len_histogram: histogram.unwrap_or_default(),
            prompts,
        })
    }

    /// The trained checkpoint at every block size, beside the target one token at a time, on the first prompts.
    fn curve(&self, workspace: &mut Workspace, reporter: &mut Reporter) -> Result<Vec<BlockSizePoint>> {
        let mut kinds = vec![ArmKind::autoregressive(ArmCheckpoint::Target)];
        let sizes = BLOCK_SIZES.iter().filter_map(|&size| NonZeroUsize::new(size));
        kinds.extend(sizes.map(|size| ArmKind::jacobi(ArmCheckpoint::Cllm, size)));
        let mut totals = vec![Totals::default(); kinds.len()];
        for (turn, (_, example)) in (0..).zip(self.examples.iter().take(CURVE_PROMPTS)) {
            reporter.check_interruption()?;
            let prompt = self.encode(example)?;
            if turn == 0 {
                // touches all memory once before anything is timed
                self.contestants.decode(&kinds, &prompt, 0, workspace)?;
            }
            let generations = self.contestants.decode(&kinds, &prompt, turn, workspace)?;
            for (totals, generation) in totals.iter_mut().zip(&generations) {
                totals.add(generation, 0.0, false);
            }
        }
        let (target, cllm) = totals.split_at(1);
        Ok(kinds[1..].iter().zip(cllm).map(|(kind, totals)| totals.point(*kind, &target[0])).collect())
    }

    /// All arms on all prompts.
    fn all(
        &self,
        kinds: &[ArmKind],
        workspace: &mut Workspace,
        reporter: &mut Reporter,
    ) -> Result<(Vec<MeasuredArm>, Vec<PromptResult>)> {
        let mut arms: Vec<MeasuredArm> = kinds.iter().map(|kind| (*kind, Totals::default())).collect();
        let mut prompts = Vec::with_capacity(self.examples.len());
        for (turn, (index, example)) in (0..).zip(&self.examples) {
            reporter.check_interruption()?;
            let begun = Instant::now();
            let prompt = self.encode(example)?;
            let encode_seconds = begun.elapsed().as_secs_f64();
            let generations = self.contestants.decode(kinds, &prompt, turn, workspace)?;
            let result = self.judged(u64::from(*index), example, kinds, &generations);
            for ((kind, totals), generation) in arms.iter_mut().zip(&generations) {
                let correct = match kind.checkpoint {
                    ArmCheckpoint::Target => result.target_correct,
                    ArmCheckpoint::Cllm => result.cllm_correct,
                };
                totals.add(generation, encode_seconds, correct);
            }
            prompts.push(result);
            reporter.update(turn + 1, self.examples.len() as u64, &self.figures(&arms));
        }
        Ok((arms, prompts))
    }

    fn encode(&self, example: &Example) -> Result<Vec<u32>> {
        self.target.tokenizer().encode(&example.prompt).map_err(Failure::engine)
    }

    fn judged(&self, index: u64, example: &Example, kinds: &[ArmKind], generations: &[Generation]) -> PromptResult {
        let reference = self.judge.reference(&example.completion);
        let tokens = |checkpoint| {
            let found = kinds.iter().zip(generations).find(|(kind, _)| kind.checkpoint == checkpoint);
            found.map_or(&[][..], |(_, generation)| &generation.tokens)
        };
        let (target, cllm) = (tokens(ArmCheckpoint::Target), tokens(ArmCheckpoint::Cllm));
        let agrees_with_target = target == cllm;
        let target_correct = self.is_correct(target, &self.target, &reference);
        let cllm_correct =
            if agrees_with_target { target_correct } else { self.is_correct(cllm, &self.cllm, &reference) };
        PromptResult {
            index,
            agrees_with_target,
            target_correct,
            cllm_correct,
            arms: generations.iter().map(prompt_arm).collect(),
        }
    }

    fn is_correct(&self, tokens: &[u32], checkpoint: &Checkpoint, reference: &Reference<'_>) -> bool {
        self.judge.is_correct(&checkpoint.tokenizer().decode(tokens), reference)
    }

    fn figures(&self, arms: &[MeasuredArm]) -> Vec<(&'static str, String)> {
        let speedup = speedup(
            arms,
            self.arguments.block_size.get() as u32,
            self.arguments.block_size.get() as u32,
            String::new(),
        );
        let quality = quality(arms, self.arguments.metric.name());
        vec![
            ("tokensPerForward", speedup.tokens_per_forward),
            ("overTarget", speedup.over_target),
            ("qualityTarget", quality.target),
            ("qualityCllm", quality.cllm),
        ]
    }

    fn conditions(&self) -> Conditions {
        let hardware = self.contestants.cllm.hardware();
        Conditions {
            hardware: hardware.processor,
            threads: hardware.threads as u32,
            instruction_set: hardware.instruction_set.to_owned(),
            dtype: hardware.storage.clone(),
            cllm_version: env!("CARGO_PKG_VERSION").to_owned(),
            concurrency: 1,
            block_size: self.arguments.block_size.get() as u32,
            max_new_tokens: self.arguments.max_new_tokens.get() as u32,
            dataset: self.arguments.dataset.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            prompts: self.examples.len() as u64,
            sampling: "greedy".to_owned(),
            seed: self.arguments.seed,
        }
    }
}

/// Examples chosen by the seed, in a random order; those that do not fit the context are left out.
fn choose(arguments: &EvaluateArguments, target: &Checkpoint) -> Result<Vec<(u32, Example)>> {
    let mut examples = data::read(&arguments.dataset, target.tokenizer(), &arguments.records, None)?;
    examples.shuffle(&mut random(arguments.seed, "evaluate", 0));
    examples.truncate(arguments.prompts.get());
    let context = target.config().max_position_embeddings;
    let total = examples.len();
    examples.retain(|(_, example)| {
        target.tokenizer().encode(&example.prompt).is_ok_and(|prompt| !prompt.is_empty() && prompt.len() < context)
    });
    match examples.len() {
        0 => Err(Failure::BadInput(format!(
            "no prompt of {} fits the context of {context} tokens",
            arguments.dataset.display()
        ))),
        kept if kept < total => {
            tracing::warn!(
                "{} of {total} prompts exceed the context of {context} tokens and are left out",
                total - kept
            );
            Ok(examples)
        }
        _ => Ok(examples),
    }
}

/// Everything that is compared: both checkpoints in three ways at the given block size, and what is fastest at the best one.
fn kinds(block_size: NonZeroUsize, best: u32) -> Vec<ArmKind> {
    use ArmCheckpoint::{Cllm, Target};
    let best = NonZeroUsize::new(best as usize).unwrap_or(block_size);
    let mut kinds = vec![
        ArmKind::autoregressive(Target),
        ArmKind::jacobi(Target, block_size),
        ArmKind::lookup(Target, block_size),
        ArmKind::autoregressive(Cllm),
        ArmKind::jacobi(Cllm, block_size),
        ArmKind::lookup(Cllm, block_size),
    ];
    if best != block_size {
        // the target's lookup at the small size too: the comparison must not win by a size that suits only one side
        kinds.extend([ArmKind::lookup(Target, best), ArmKind::jacobi(Cllm, best)]);
    }
    kinds
}

fn summary(digest: &str, checkpoint: &Checkpoint) -> CheckpointSummary {
    let shapes = checkpoint.config().tensor_shapes();
    let parameters = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum();
    CheckpointSummary { digest: digest.to_owned(), parameters }
}

fn costs(model: &Model) -> Vec<ForwardCost> {
    let costs = forward_cost(model, &COST_ROWS, COST_REPETITIONS);
    let one = costs.first().map_or(0.0, |(_, seconds)| *seconds);
    costs
        .into_iter()
        .map(|(rows, seconds)| ForwardCost { rows: rows as u32, seconds, ratio: ratio(seconds, one) })
        .collect()
}
