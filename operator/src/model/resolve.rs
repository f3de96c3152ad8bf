//! Which checkpoint a spec asks for. A training is followed only when its gates passed, and by its digest.

use std::collections::BTreeMap;
use std::fmt;

use cllm_crds::conditions::{reasons, types};
use cllm_crds::{CllmTraining, CllmTrainingStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::conditions::is_true;
use crate::location::{Location, LocationError, Purpose};
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
        Ok(Self { uri: uri.to_owned(), location: Location::parse(uri, Purpose::Model)?, digest })
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

    /// Whether both are one checkpoint, as far as is known.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.uri == other.uri && (self.digest == other.digest || self.digest.is_none() || other.digest.is_none())
    }
}

impl fmt::Display for ResolvedModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.digest.as_deref().unwrap_or(&self.uri))
    }
}

/// Which trainings a model follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrainingQuery {
    /// The one of that name.
    Name(String),
    /// All with these labels: the newest result counts.
    Labels(BTreeMap<String, String>),
}

impl TrainingQuery {
    /// Whether the training is one of those.
    pub fn matches(&self, training: &CllmTraining) -> bool {
        match self {
            Self::Name(name) => training.metadata.name.as_ref() == Some(name),
            Self::Labels(labels) => labels.iter().all(|(key, value)| training.labels().get(key) == Some(value)),
        }
    }

    /// As the API spells a selection by labels: `a=b,c=d`.
    pub fn selector(labels: &BTreeMap<String, String>) -> String {
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for TrainingQuery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(formatter, "CllmTraining {name}"),
            Self::Labels(labels) => write!(formatter, "a CllmTraining with the labels {}", Self::selector(labels)),
        }
    }
}

/// A checkpoint, or why there is none.
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

/// What the spec asks for, given the trainings of the namespace: the checkpoint that it names, the result that it pins, or the newest
/// result of the trainings that it follows.
pub fn resolve(model: &ValidModel, trainings: &[CllmTraining]) -> Resolution {
    let query = match &model.reference {
        ModelReference::Checkpoint(checkpoint) => return Resolution::Resolved(checkpoint.clone()),
        ModelReference::Training(query) => query,
    };
    let followed: Vec<_> = trainings.iter().filter(|training| query.matches(training)).collect();
    let results = results(&followed);
    match &model.spec.model.digest {
        Some(digest) => pinned(model, digest, &results, query),
        None => results.into_iter().next().map_or_else(|| no_result(query, &followed), Resolution::Resolved),
    }
}

/// What the trainings gave whose gates passed, newest first.
fn results(trainings: &[&CllmTraining]) -> Vec<ResolvedModel> {
    let mut complete: Vec<_> = trainings.iter().filter_map(|training| result(training)).collect();
    complete.sort_by(|(left, _), (right, _)| right.cmp(left));
    complete.into_iter().map(|(_, checkpoint)| checkpoint).collect()
}

/// With when it came about, and the name for those that came about at once.
fn result(training: &CllmTraining) -> Option<((Option<Timestamp>, String), ResolvedModel)> {
    let status = training.status.as_ref()?;
    let output = status.output.as_ref().filter(|_| is_true(&status.conditions, types::COMPLETE))?;
    let checkpoint = ResolvedModel::new(&output.uri, Some(output.digest.clone())).ok()?;
    Some(((status.completion_time.as_ref().map(|time| time.0), training.name_any()), checkpoint))
}

/// A result of the trainings, or what is or was served: a training may be gone, its result is not.
fn pinned(model: &ValidModel, digest: &str, results: &[ResolvedModel], query: &TrainingQuery) -> Resolution {
    let memory = &model.memory;
    let known: Vec<_> =
        results.iter().chain(&memory.served).chain(&memory.last_good).chain(&memory.previous_good).collect();
    if let Some(found) = known.iter().find(|checkpoint| checkpoint.digest() == Some(digest)) {
        return Resolution::Resolved((*found).clone());
    }
    let mut digests: Vec<_> = known.iter().filter_map(|checkpoint| checkpoint.digest()).collect();
    digests.sort_unstable();
    digests.dedup();
    let known = if digests.is_empty() { "none yet".to_owned() } else { digests.join(", ") };
    Resolution::Waiting {
        reason: reasons::DIGEST_NOT_KNOWN,
        message: format!(
            "spec.model.digest {digest} is no result of {query} whose gates passed (known: {known}): correct it, or leave it \
             out to follow the newest."
        ),
    }
}

fn no_result(query: &TrainingQuery, followed: &[&CllmTraining]) -> Resolution {
    let (reason, message) = match (query, followed) {
        (TrainingQuery::Name(name), []) => (
            reasons::TRAINING_NOT_FOUND,
            format!(
                "CllmTraining {name} does not exist in this namespace: create it, or correct spec.model.trainingRef."
            ),
        ),
        (TrainingQuery::Name(name), [training, ..]) => no_result_of(name, training.status.as_ref()),
        (TrainingQuery::Labels(labels), followed) => none_of(&TrainingQuery::selector(labels), followed),
    };
    Resolution::Waiting { reason, message }
}

fn no_result_of(name: &str, status: Option<&CllmTrainingStatus>) -> (&'static str, String) {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let output = status.and_then(|status| status.output.as_ref()).filter(|_| is_true(conditions, types::COMPLETE));
    if let Some(Err(error)) = output.map(|output| Location::parse(&output.uri, Purpose::Model)) {
        return (reasons::TRAINING_FAILED, format!("The output of CllmTraining {name}: {error}."));
    }
    if is_true(conditions, types::FAILED) {
        let message =
            format!("CllmTraining {name} failed, so it has nothing to serve: train again under another name.");
        return (reasons::TRAINING_FAILED, message);
    }
    let stage = status.and_then(|status| status.stage).map(|stage| format!(" (stage {stage:?})")).unwrap_or_default();
    let message =
        format!("CllmTraining {name} has no result yet{stage}; its checkpoint is served when its gates have passed.");
    (reasons::TRAINING_NOT_COMPLETE, message)
}

fn none_of(selector: &str, followed: &[&CllmTraining]) -> (&'static str, String) {
    let has_failed = |training: &&CllmTraining| {
        training.status.as_ref().is_some_and(|status| is_true(&status.conditions, types::FAILED))
    };
    match followed.len() {
        0 => (
            reasons::TRAINING_NOT_FOUND,
            format!(
                "No CllmTraining of this namespace has the labels {selector}: create one, or correct \
                 spec.model.trainingRef.selector."
            ),
        ),
        count if followed.iter().all(has_failed) => (
            reasons::TRAINING_FAILED,
            format!("All {count} CllmTrainings with the labels {selector} failed: train again under another name."),
        ),
        count => (
            reasons::TRAINING_NOT_COMPLETE,
            format!(
                "None of the {count} CllmTrainings with the labels {selector} has a result yet; it is served when its gates \
                 have passed."
            ),
        ),
    }
}
