//! The operator's validation of the documents of a file, with the errors placed in the file.

use cllm_crds::{CllmModel, CllmTraining};
use cllm_operator::Images;
use cllm_operator::model::{self, ModelReference, ValidModel};
use cllm_operator::training::{self, ValidTraining};

use crate::documents::{Document, DocumentError, Located, Place};

/// A resource and what validation made of it.
#[derive(Clone, Debug)]
pub(crate) struct Checked<Resource, Valid> {
    /// As written.
    pub resource: Resource,
    /// Ready to be rendered.
    pub valid: Valid,
    /// For errors found later.
    pub place: Place,
}

/// A training of a file.
pub(crate) type CheckedTraining = Checked<CllmTraining, ValidTraining>;
/// A model of a file.
pub(crate) type CheckedModel = Checked<CllmModel, ValidModel>;

/// Validates all documents; a model must find the training that it names in the same file.
pub(crate) fn check(documents: Vec<Located>) -> Result<(Vec<CheckedTraining>, Vec<CheckedModel>), DocumentError> {
    let (images, mut trainings, mut models) = (Images::of_this_version(), Vec::new(), Vec::new());
    for Located { document, place } in documents {
        let refused = |problem: String| DocumentError::Document { place: place.clone(), problem };
        match document {
            Document::Training(resource) => {
                let valid = training::validate(&resource, &images).map_err(|error| refused(error.to_string()))?;
                trainings.push(Checked { resource: *resource, valid, place });
            }
            Document::Model(resource) => {
                let valid = model::validate(&resource, &images).map_err(|error| refused(error.to_string()))?;
                models.push(Checked { resource: *resource, valid, place });
            }
        }
    }
    models.iter().try_for_each(|model| find_training(model, &trainings).map(|_| ()))?;
    Ok((trainings, models))
}

/// The training that a model refers to, if it refers to one.
pub(crate) fn find_training<'a>(
    model: &CheckedModel,
    trainings: &'a [CheckedTraining],
) -> Result<Option<&'a CheckedTraining>, DocumentError> {
    let ModelReference::Training(query) = model.valid.reference() else { return Ok(None) };
    match trainings.iter().find(|training| query.matches(&training.resource)) {
        Some(training) => Ok(Some(training)),
        None => Err(DocumentError::Document {
            place: model.place.clone(),
            problem: format!(
                "spec.model.trainingRef names {query}, which is not in this file; \
                 put both into one file, or name the checkpoint with spec.model.uri"
            ),
        }),
    }
}
