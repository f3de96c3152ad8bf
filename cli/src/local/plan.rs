//! What a file asks of this machine: checked resources, cut down to one replica and one worker, and the folders of their claims. Starts
//! nothing.

use std::path::{Path, PathBuf};

use cllm_crds::CllmTraining;
use kube::ResourceExt;

use super::claims::{ANNOTATION, Claims};
use crate::documents::{Document, DocumentError, Located, Place};
use crate::validated::{CheckedModel, CheckedTraining, check};

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of the file.
    pub trainings: Vec<CheckedTraining>,
    /// In the order of the file.
    pub models: Vec<CheckedModel>,
    /// Where claims are.
    pub claims: Claims,
    /// What is done otherwise than in a cluster, in sentences.
    pub notes: Vec<String>,
}

impl Plan {
    /// Reads the documents of `file`; `named` are the folders of `--claim`, all others lie under `claims_root`.
    pub(super) fn new(
        file: &Path,
        documents: Vec<Located>,
        named: &[(String, PathBuf)],
        claims_root: PathBuf,
    ) -> Result<Self, DocumentError> {
        let mut claims = Claims::new(claims_root);
        for Located { document, place } in &documents {
            let annotations = match document {
                Document::Training(training) => training.annotations(),
                Document::Model(model) => model.annotations(),
            };
            let annotation = annotations.get(ANNOTATION).map_or("", String::as_str);
            claims.annotate(annotation, file).map_err(|problem| refused(place, problem))?;
        }
        for (claim, folder) in named {
            claims.name(claim, folder);
        }
        let notes = documents.iter().filter_map(|located| note(&located.document)).collect();
        let documents = documents.into_iter().map(|located| Located { document: local(located.document), ..located });
        let (trainings, models) = check(documents.collect())?;
        let plan = Self { trainings, models, claims, notes };
        plan.check_inputs()?;
        Ok(plan)
    }

    /// What is only read must be there before anything starts.
    fn check_inputs(&self) -> Result<(), DocumentError> {
        for training in &self.trainings {
            for (field, uri) in training_inputs(&training.resource) {
                self.check_input(&training.place, field, uri)?;
            }
        }
        for model in &self.models {
            if let Some(uri) = &model.resource.spec.model.uri {
                self.check_input(&model.place, "spec.model.uri", uri)?;
            }
        }
        Ok(())
    }

    fn check_input(&self, place: &Place, field: &str, uri: &str) -> Result<(), DocumentError> {
        // the trainer says better than we what a pattern does not match
        let path = self.claims.path_of(uri).filter(|_| !uri.contains('*'));
        match path {
            Some(path) if !path.exists() => {
                let hint = match uri.strip_prefix("pvc://").and_then(|rest| rest.split_once('/')) {
                    Some((claim, _)) => format!("put it there, or name another folder with --claim {claim}=DIR"),
                    None => "correct the path".to_owned(),
                };
                let path = path.display();
                Err(refused(place, format!("{field}: {uri} is {path} on this machine, which does not exist; {hint}")))
            }
            _ => Ok(()),
        }
    }
}

fn training_inputs(training: &CllmTraining) -> Vec<(&'static str, &str)> {
    let spec = &training.spec;
    let mut inputs = vec![
        ("spec.model.uri", spec.model.uri.as_str()),
        ("spec.dataset.uri", &spec.dataset.uri),
        ("spec.dataset.testUri", &spec.dataset.test_uri),
    ];
    inputs.extend(spec.dataset.validation_uri.as_deref().map(|uri| ("spec.dataset.validationUri", uri)));
    inputs.extend(spec.evaluation.database_uri.as_deref().map(|uri| ("spec.evaluation.databaseUri", uri)));
    inputs
}

/// Several workers help only where there are several machines; one gives the same result.
fn note(document: &Document) -> Option<String> {
    let Document::Training(training) = document else { return None };
    let workers = training.spec.training.workers;
    (workers > 1).then(|| {
        format!(
            "CllmTraining {} asks for {workers} workers (spec.training.workers); on this machine one process trains, with the same \
             result",
            training.name_any()
        )
    })
}

/// This machine runs one replica of everything, and scales nothing.
fn local(document: Document) -> Document {
    match document {
        Document::Training(mut training) => {
            training.spec.training.workers = 1;
            Document::Training(training)
        }
        Document::Model(mut model) => {
            model.spec.replicas = model.spec.replicas.min(1);
            model.spec.autoscaling = None;
            Document::Model(model)
        }
    }
}

fn refused(place: &Place, problem: String) -> DocumentError {
    DocumentError::Document { place: place.clone(), problem }
}
