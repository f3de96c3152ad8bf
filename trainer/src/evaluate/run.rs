//! The stage `evaluate` from arguments to a folder with weights and report.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use cllm_crds::report::Report;

use super::measure::Evaluation;
use super::metric::Metric;
use super::page::page;
use super::stored::{Evaluated, REPORT, evaluated, existing, folder};
use super::temperatures::Temperatures;
use crate::data::DatasetArguments;
use crate::failure::{Failure, Result};
use crate::history::Point;
use crate::progress::Reporter;
use crate::run_output::HISTORY;
use crate::storage::{self, FolderLock};

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
    /// The held-out examples.
    #[command(flatten)]
    pub data: DatasetArguments,
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
    /// At which temperatures everything is measured, a list with 0 in it, such as 0,0.7. Each one takes as long as the first.
    #[arg(long, default_value = "0")]
    pub temperatures: Temperatures,
    /// The result goes to a folder in this one that is named by its digest.
    #[arg(long)]
    pub output: PathBuf,
    /// How --output is called outside, such as `pvc://models/text2sql`; its path where it is not given.
    #[arg(long)]
    pub output_uri: Option<String>,
    /// Chooses the examples, and draws tokens at temperatures above 0.
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
