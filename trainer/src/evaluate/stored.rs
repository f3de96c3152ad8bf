//! What an evaluation has stored: where it lies, and reading it again. Nothing is measured or written.

use std::fs;
use std::path::{Path, PathBuf};

use cllm_crds::report::Report;
use cllm_crds::status_page::Output;

use crate::failure::{Failure, Result};

/// The file that makes a folder a result.
pub(crate) const REPORT: &str = "report.json";

/// Arguments of `report`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArguments {
    /// The model before training.
    #[arg(long)]
    pub target: PathBuf,
    /// The model after training.
    #[arg(long)]
    pub model: PathBuf,
    /// The folder that `evaluate` was given.
    #[arg(long)]
    pub output: PathBuf,
    /// How --output is called outside, such as `pvc://models/text2sql`; its path where it is not given.
    #[arg(long)]
    pub output_uri: Option<String>,
}

/// The report, and where it is.
#[derive(Debug)]
pub struct Evaluated {
    /// What was measured.
    pub report: Report,
    /// Where it lies.
    pub output: Output,
}

/// Reads the report of that checkpoint.
pub fn stored(arguments: &ReportArguments) -> Result<Evaluated> {
    let digest = cllm_engine::checkpoint::digest(&arguments.model)?;
    let target_digest = cllm_engine::checkpoint::digest(&arguments.target)?;
    let report = existing(&folder(&arguments.output, &digest), &target_digest)?;
    evaluated(report, &arguments.output, arguments.output_uri.as_deref(), digest)
}

/// The folder of a checkpoint in that of all outputs.
pub(super) fn folder(output: &Path, digest: &str) -> PathBuf {
    output.join(digest.trim_start_matches("sha256:"))
}

/// An output is never overwritten, so one against another target cannot be replaced either.
pub(super) fn existing(folder: &Path, target_digest: &str) -> Result<Report> {
    let path = folder.join(REPORT);
    let text = fs::read(&path).map_err(Failure::read(&path))?;
    read_report(&text, &folder.display().to_string(), target_digest)
}

/// The report of the result at `place`, which must be about this target.
pub(crate) fn read_report(text: &[u8], place: &str, target_digest: &str) -> Result<Report> {
    let report: Report = serde_json::from_slice(text)
        .map_err(|error| Failure::BadInput(format!("{place} has no readable {REPORT} ({error}); remove it")))?;
    if report.target.digest == target_digest {
        return Ok(report);
    }
    Err(Failure::BadInput(format!(
        "{place} holds this checkpoint measured against another target ({}); remove it or name another --output",
        report.target.digest
    )))
}

/// A report with its place; `uri` is how the folder of all outputs is called outside.
pub(super) fn evaluated(report: Report, output: &Path, uri: Option<&str>, digest: String) -> Result<Evaluated> {
    let uri = uri.map_or_else(|| output.display().to_string(), str::to_owned);
    let output = Output {
        uri: format!("{}/{}", uri.trim_end_matches('/'), digest.trim_start_matches("sha256:")),
        size_bytes: size(&folder(output, &digest))?,
        digest,
    };
    Ok(Evaluated { report, output })
}

fn size(folder: &Path) -> Result<u64> {
    let entries = fs::read_dir(folder).map_err(Failure::read(folder))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum())
}
