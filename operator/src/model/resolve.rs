//! From where a model's weights come to which checkpoint is served. A training is followed only when its gates passed.

use cllm_crds::conditions::{reasons, types};
use cllm_crds::{CllmTraining, CllmTrainingStatus};

use crate::conditions::is_true;
use crate::location::{Location, LocationError};
use crate::model::{ModelReference, ValidModel};

/// A checkpoint that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedModel {
    uri: String,
    location: Location,
    digest: Option<String>,
}

impl ResolvedModel {
    /// A checkpoint folder; the digest where it is known before the weights are loaded.
    pub fn new(uri: &str, digest: Option<String>) -> Result<Self, LocationError> {
        Ok(Self { uri: uri.to_owned(), location: Location::parse(uri)?, digest })
    }

    /// As the spec or the training wrote it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Parsed.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// `sha256:` and 64 hexadecimal digits, where it is known.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

/// Which checkpoint is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// This one.
    Resolved(ResolvedModel),
    /// None yet.
    Waiting {
        /// A reason of [`cllm_crds::conditions::reasons`].
        reason: &'static str,
        /// A sentence that says what to do.
        message: String,
    },
}

/// Resolves a model, given the training that it names, if that exists. What is served already stays served while its training is gone,
/// runs again or fails.
pub fn resolve(model: &ValidModel, training: Option<&CllmTraining>) -> Resolution {
    let name = match &model.reference {
        ModelReference::Checkpoint(checkpoint) => return Resolution::Resolved(checkpoint.clone()),
        ModelReference::Training(name) => name,
    };
    match result_of(name, training) {
        Resolution::Waiting { .. } if model.served.is_some() => {
            model.served.clone().map_or_else(|| result_of(name, training), Resolution::Resolved)
        }
        resolution => resolution,
    }
}

fn result_of(name: &str, training: Option<&CllmTraining>) -> Resolution {
    let waiting = |reason, message| Resolution::Waiting { reason, message };
    let Some(training) = training else {
        let message = format!(
            "CllmTraining {name} does not exist in this namespace: create it, or correct spec.model.trainingRef."
        );
        return waiting(reasons::TRAINING_NOT_FOUND, message);
    };
    let Some(status) = &training.status else { return not_complete(name, None) };
    if is_true(&status.conditions, types::FAILED) {
        let message =
            format!("CllmTraining {name} failed, so it has nothing to serve: train again under another name.");
        return waiting(reasons::TRAINING_FAILED, message);
    }
    match &status.output {
        Some(output) if is_true(&status.conditions, types::COMPLETE) => {
            match ResolvedModel::new(&output.uri, Some(output.digest.clone())) {
                Ok(resolved) => Resolution::Resolved(resolved),
                Err(error) => waiting(reasons::TRAINING_FAILED, format!("The output of CllmTraining {name}: {error}")),
            }
        }
        _ => not_complete(name, Some(status)),
    }
}

fn not_complete(name: &str, status: Option<&CllmTrainingStatus>) -> Resolution {
    let stage = status.and_then(|status| status.stage).map(|stage| format!(" (stage {stage:?})")).unwrap_or_default();
    Resolution::Waiting {
        reason: reasons::TRAINING_NOT_COMPLETE,
        message: format!(
            "CllmTraining {name} has no result yet{stage}; its checkpoint is served when its gates have passed."
        ),
    }
}
