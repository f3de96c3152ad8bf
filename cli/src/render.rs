//! `cllm render FILE`: the objects that the operator makes of a file, as YAML documents on standard output.

use std::io::Write;
use std::process::ExitCode;

use cllm_operator::model::{ModelReference, ResolvedModel};
use serde_json::Value;

use crate::CliError;
use crate::args::RenderArguments;
use crate::documents::{self, DocumentError};
use crate::validated::{CheckedModel, CheckedTraining, check, find_training};

/// Stands for the digest of a checkpoint that is not trained yet.
const UNKNOWN_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub(crate) fn run(arguments: &RenderArguments) -> Result<ExitCode, CliError> {
    let (trainings, models) = check(documents::read(&arguments.file)?)?;
    let mut objects = Vec::new();
    for training in &trainings {
        objects.extend(cllm_operator::training::render(&training.valid).objects());
    }
    for model in &models {
        let checkpoint = checkpoint(model, &trainings)?;
        objects.extend(cllm_operator::model::render(&model.valid, &checkpoint).objects());
    }
    print(&objects)?;
    Ok(ExitCode::SUCCESS)
}

/// What the model serves; of a training's result everything is known but its digest.
fn checkpoint(model: &CheckedModel, trainings: &[CheckedTraining]) -> Result<ResolvedModel, DocumentError> {
    if let ModelReference::Checkpoint(checkpoint) = model.valid.reference() {
        return Ok(checkpoint.clone());
    }
    let refused = |problem: String| DocumentError::Document { place: model.place.clone(), problem };
    let training = find_training(model, trainings)?.ok_or_else(|| refused("names no checkpoint".to_owned()))?;
    anstream::eprintln!(
        "note: {}: the digest of its checkpoint is known when the training is complete; zeros stand for it",
        model.place.object.as_deref().unwrap_or("CllmModel"),
    );
    let output = training.resource.spec.output.uri.trim_end_matches('/');
    ResolvedModel::new(&format!("{output}/{UNKNOWN_DIGEST}"), Some(format!("sha256:{UNKNOWN_DIGEST}")))
        .map_err(|error| refused(error.to_string()))
}

fn print(objects: &[Value]) -> Result<(), CliError> {
    let write = || -> std::io::Result<()> {
        let mut output = std::io::stdout().lock();
        for object in objects {
            let text = serde_saphyr::to_string(object).map_err(std::io::Error::other)?;
            write!(output, "---\n{text}")?;
        }
        output.flush()
    };
    write().map_err(|source| CliError::Write { path: "standard output".into(), source })
}
