//! `cllm bench`: Jacobi against autoregressive decoding of one checkpoint, in turns of a few forwards, with the tokens compared.

mod measure;
mod prompts;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cllm_crds::report::CheckpointSummary;
use cllm_engine::compare::CompareError;
use cllm_engine::{Checkpoint, CheckpointError, ComputeOptions, LoadError, Model};

use crate::CliError;
use crate::args::{BenchArguments, Output};
use measure::Answer;
use report::BenchReport;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The prompts cannot be read.
    #[error("{path}{line}: {problem}", line = line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Prompts {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: Option<usize>,
        /// A sentence.
        problem: String,
    },
    /// The checkpoint is missing or corrupt.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model does not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A prompt cannot be decoded, or not in the same way by all arms.
    #[error("{path}, line {line}: {source}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        source: CompareError,
    },
}

impl BenchError {
    /// Wrong however often it is tried.
    pub(crate) fn is_input(&self) -> bool {
        match self {
            Self::Prompts { .. } | Self::Checkpoint(_) => true,
            Self::Decode { source, .. } => matches!(source, CompareError::Decode(_)),
            Self::Load(_) => false,
        }
    }
}

pub(crate) fn run(arguments: &BenchArguments) -> Result<ExitCode, CliError> {
    let (report, answers) = measured(arguments)?;
    let json = serde_json::to_string_pretty(&report).unwrap_or_default();
    if let Some(path) = &arguments.report {
        write(path, &json)?;
    }
    if let Some(path) = &arguments.tokens {
        let lines = answers.iter().filter_map(|answer| serde_json::to_string(answer).ok());
        write(path, &lines.map(|line| line + "\n").collect::<String>())?;
    }
    match arguments.output {
        Output::Json => anstream::println!("{json}"),
        Output::Text => anstream::println!("{}", report::describe(&report)),
    }
    Ok(ExitCode::SUCCESS)
}

fn measured(arguments: &BenchArguments) -> Result<(BenchReport, Vec<Answer>), BenchError> {
    let checkpoint = Checkpoint::open(&arguments.model)?;
    let prompts = prompts::read(&arguments.prompts, arguments.limit, checkpoint.tokenizer())?;
    let model = Model::load(&checkpoint, ComputeOptions::on(arguments.device))?;
    let measurement = measure::measure(&model, &prompts, arguments)?;
    let digest = cllm_engine::checkpoint::digest(&arguments.model)?;
    let summary = CheckpointSummary { digest, parameters: checkpoint.parameters() };
    let report = report::report(arguments, summary, &model.hardware(), &measurement);
    Ok((report, measurement.answers))
}

/// Written beside, then renamed: there is never half a report.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|source| CliError::Write { path: path.to_owned(), source })
}
