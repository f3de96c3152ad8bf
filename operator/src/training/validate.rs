//! Checks a CllmTraining beyond what its schema says, and parses it: everything after this works on a [`ValidTraining`].
//!
//! The API server has checked most of this before; local mode has no API server.

use cllm_crds::conditions::types;
use cllm_crds::{
    Access, AccessMode, CllmTraining, CllmTrainingSpec, JobSummary, Keep, NAME_MAX_LENGTH, QualityMetric,
    TrainingMethod, Workspace,
};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use crate::access::Role;
use crate::conditions::is_true;
use crate::decimal::{Decimal, DecimalError};
use crate::images::Images;
use crate::location::{Location, LocationError, Purpose, is_claim_name};
use crate::naming::{Labels, Owner, queue_labels};
use crate::training::job::stage_of;

/// A training that can be rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidTraining {
    pub(crate) owner: Owner,
    pub(crate) generation: Option<i64>,
    pub(crate) queue_labels: Labels,
    pub(crate) image: String,
    pub(crate) spec: CllmTrainingSpec,
    pub(crate) model: Location,
    pub(crate) dataset: Location,
    pub(crate) validation: Option<Location>,
    pub(crate) test: Location,
    pub(crate) database: Option<Location>,
    /// A folder of a claim, or of S3.
    pub(crate) output: Location,
    pub(crate) workspace: WorkspaceClaim,
    pub(crate) min_speedup: Option<Decimal>,
    pub(crate) max_quality_drop: Option<Decimal>,
    /// The status says Complete or Failed: it never runs again.
    pub(crate) is_terminal: bool,
    /// The status has the figures of the last stage.
    pub(crate) has_result: bool,
    /// The Jobs that the status remembers, also when they are gone.
    pub(crate) recorded_jobs: Vec<JobSummary>,
}

/// The claim between the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceClaim {
    /// Its name.
    pub name: String,
    /// Whether the training makes it.
    pub is_new: bool,
}

/// Why a training cannot run; each sentence says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidationError {
    /// Its children could not be named.
    #[error(
        "metadata.name `{found}` cannot be used: it must have at most {NAME_MAX_LENGTH} characters, start with a letter, and contain \
         only lower-case letters, digits and '-'"
    )]
    Name {
        /// The name.
        found: String,
    },
    /// A URI that means nothing to cllm.
    #[error("{field}: {source}")]
    Location {
        /// The path of the field.
        field: &'static str,
        /// What is wrong.
        source: LocationError,
    },
    /// The result must outlive its Pod.
    #[error(
        "spec.output.uri `{found}` cannot keep a result: write pvc://CLAIM/PATH (a folder of a PersistentVolumeClaim) or \
         s3://BUCKET/PREFIX"
    )]
    Output {
        /// The URI.
        found: String,
    },
    /// Access to a place that is mounted.
    #[error(
        "{field}.secretRef, endpoint, region, caBundleRef and proxy go with a place that is reached over the network (s3://; a model also \
         hf:// and oci://): remove them, or correct the uri"
    )]
    Access {
        /// The path of the object with the fields.
        field: &'static str,
    },
    /// A string that is no decimal.
    #[error("{field}: {source}")]
    Decimal {
        /// The path of the field.
        field: &'static str,
        /// What is wrong.
        source: DecimalError,
    },
    /// A rate of zero trains nothing, and a weight of zero adds nothing.
    #[error("{field} is 0: write a positive decimal as a string, like \"0.001\"")]
    Zero {
        /// The path of the field.
        field: &'static str,
    },
    /// Both or neither.
    #[error("spec.adaptation needs exactly one of epochs and steps: keep one of the two")]
    AdaptationLength,
    /// Adapters of a method that has none.
    #[error(
        "spec.training.lora describes the adapters of method LoRA: set spec.training.method to LoRA, or remove lora"
    )]
    Lora,
    /// A limit for a choice that there is not.
    #[error(
        "spec.training.maxPerplexityRise says which check is the best: set spec.training.keep to Best, or remove maxPerplexityRise"
    )]
    PerplexityRise,
    /// Pods that train together and a volume for one of them.
    #[error(
        "spec.training.workers above 1 lets several Pods use the workspace at once, which ReadWriteOncePod forbids: set \
         spec.workspace.accessModes to ReadWriteMany (or to ReadWriteOnce where all Pods run on one node), or workers to 1"
    )]
    SharedWorkspace,
    /// A temperature that is not measured.
    #[error(
        "spec.evaluation.temperatures has `{found}`: each must be a decimal as a string above 0 and at most 2, like \"0.7\" (greedy \
         decoding is always measured)"
    )]
    Temperature {
        /// What was written.
        found: String,
    },
    /// Metric and database go together.
    #[error("spec.evaluation.databaseUri goes with metric SqlExecution: set both, or neither")]
    Database,
    /// An existing claim and a new one at once.
    #[error(
        "spec.workspace is either an existing claim (claimName) or a new one (storageClassName, size, accessModes): remove one of the two"
    )]
    Workspace,
    /// A claim that cannot exist.
    #[error(
        "spec.workspace.claimName `{found}` cannot be the name of a PersistentVolumeClaim: it must contain only lower-case letters, \
         digits, '-' and '.'"
    )]
    ClaimName {
        /// The name.
        found: String,
    },
}

/// Checks and parses. The image comes from the spec, else from the status (where it was pinned), else from `images`.
pub fn validate(training: &CllmTraining, images: &Images) -> Result<ValidTraining, ValidationError> {
    let spec = &training.spec;
    let owner = Owner::of(training);
    check_name(&owner.name)?;
    check_adaptation(spec)?;
    check_training(spec)?;
    check_evaluation(spec)?;
    check_access("spec.model", &spec.model.access, &[Some(&spec.model.uri)])?;
    let data = [Some(&spec.dataset.uri), spec.dataset.validation_uri.as_ref(), Some(&spec.dataset.test_uri)];
    check_access("spec.dataset", &spec.dataset.access, &data)?;
    check_access("spec.output", &spec.output.access, &[Some(&spec.output.uri)])?;
    let status = training.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    Ok(ValidTraining {
        generation: training.metadata.generation,
        queue_labels: queue_labels(&training.metadata),
        image: pinned_image(training, images),
        model: location("spec.model.uri", &spec.model.uri, Purpose::Model)?,
        dataset: location("spec.dataset.uri", &spec.dataset.uri, Purpose::Data)?,
        validation: optional_location(
            "spec.dataset.validationUri",
            spec.dataset.validation_uri.as_deref(),
            Purpose::Data,
        )?,
        test: location("spec.dataset.testUri", &spec.dataset.test_uri, Purpose::Data)?,
        database: optional_location(
            "spec.evaluation.databaseUri",
            spec.evaluation.database_uri.as_deref(),
            Purpose::Volume,
        )?,
        output: output(&spec.output.uri)?,
        workspace: workspace(&owner.name, spec.workspace.as_ref())?,
        min_speedup: optional_decimal("spec.evaluation.minSpeedup", spec.evaluation.min_speedup.as_deref())?,
        max_quality_drop: optional_decimal(
            "spec.evaluation.maxQualityDrop",
            spec.evaluation.max_quality_drop.as_deref(),
        )?,
        is_terminal: [types::COMPLETE, types::FAILED].iter().any(|type_| is_true(conditions, type_)),
        has_result: status
            .is_some_and(|status| status.output.is_some() && status.speedup.is_some() && status.quality.is_some()),
        recorded_jobs: status.map(|status| status.jobs.clone()).unwrap_or_default(),
        spec: spec.clone(),
        owner,
    })
}

impl ValidTraining {
    /// By which way the places of a role are reached.
    pub(crate) fn access(&self, role: Role) -> &Access {
        match role {
            Role::Model => &self.spec.model.access,
            Role::Dataset => &self.spec.dataset.access,
            Role::Output => &self.spec.output.access,
        }
    }

    /// All places that are reached over the network, with the way there.
    pub(crate) fn remote_places(&self) -> impl Iterator<Item = (&str, &Access)> {
        let data = [&self.dataset, &self.test].into_iter().chain(&self.validation).map(|place| (Role::Dataset, place));
        let places = [(Role::Model, &self.model), (Role::Output, &self.output)].into_iter().chain(data);
        places.filter_map(|(role, place)| Some((place.remote()?, self.access(role))))
    }

    /// Remembers the Jobs that exist too: the operator may have ended between the making of a Job and its record, and a newer one may
    /// compute another name.
    pub fn remember(&mut self, jobs: &[Job]) {
        for (job, stage) in jobs.iter().filter_map(|job| Some((job, stage_of(job.labels())?))) {
            if self.owner.is_in_cluster() && !self.recorded_jobs.iter().any(|summary| summary.stage == stage) {
                let name = job.name_any();
                self.recorded_jobs.push(JobSummary { name, stage, active: 0, succeeded: 0, failed: 0 });
            }
        }
    }
}

/// Children are named after their owner.
pub(crate) fn is_name(name: &str) -> bool {
    let is_inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    name.len() <= NAME_MAX_LENGTH
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(is_inner)
}

fn check_name(name: &str) -> Result<(), ValidationError> {
    if is_name(name) { Ok(()) } else { Err(ValidationError::Name { found: name.to_owned() }) }
}

fn check_adaptation(spec: &CllmTrainingSpec) -> Result<(), ValidationError> {
    let Some(adaptation) = &spec.adaptation else { return Ok(()) };
    if adaptation.epochs.is_some() == adaptation.steps.is_some() {
        return Err(ValidationError::AdaptationLength);
    }
    positive("spec.adaptation.learningRate", &adaptation.learning_rate)
}

fn check_training(spec: &CllmTrainingSpec) -> Result<(), ValidationError> {
    let options = &spec.training;
    positive("spec.training.learningRate", &options.learning_rate)?;
    decimal("spec.training.autoregressiveWeight", &options.autoregressive_weight)?;
    if let Some(lora) = &options.lora {
        if options.method != TrainingMethod::Lora {
            return Err(ValidationError::Lora);
        }
        positive("spec.training.lora.alpha", &lora.alpha)?;
    }
    let rise = optional_decimal("spec.training.maxPerplexityRise", options.max_perplexity_rise.as_deref())?;
    if rise.is_some() && options.keep != Keep::Best {
        return Err(ValidationError::PerplexityRise);
    }
    let mut modes = spec.workspace.iter().flat_map(|workspace| workspace.access_modes.iter().flatten());
    let is_for_one = modes.any(|mode| *mode == AccessMode::ReadWriteOncePod);
    if options.workers > 1 && is_for_one { Err(ValidationError::SharedWorkspace) } else { Ok(()) }
}

fn check_evaluation(spec: &CllmTrainingSpec) -> Result<(), ValidationError> {
    let is_measured = |text: &String| {
        text.parse::<Decimal>().is_ok_and(|temperature| Decimal::ZERO < temperature && temperature <= Decimal::TWO)
    };
    if let Some(refused) = spec.evaluation.temperatures.iter().find(|text| !is_measured(text)) {
        return Err(ValidationError::Temperature { found: refused.clone() });
    }
    let needs_database = spec.evaluation.metric == QualityMetric::SqlExecution;
    if needs_database == spec.evaluation.database_uri.is_some() { Ok(()) } else { Err(ValidationError::Database) }
}

fn pinned_image(training: &CllmTraining, images: &Images) -> String {
    let pinned = training.status.as_ref().and_then(|status| status.image.as_ref());
    training.spec.pod.image.as_ref().or(pinned).unwrap_or(&images.trainer).clone()
}

fn workspace(training: &str, workspace: Option<&Workspace>) -> Result<WorkspaceClaim, ValidationError> {
    let new = || WorkspaceClaim { name: format!("{training}-training-workspace"), is_new: true };
    let Some(Workspace { claim_name: Some(claim), storage_class_name, size, access_modes }) = workspace else {
        return Ok(new());
    };
    if storage_class_name.is_some() || size.is_some() || access_modes.is_some() {
        return Err(ValidationError::Workspace);
    }
    if !is_claim_name(claim) {
        return Err(ValidationError::ClaimName { found: claim.clone() });
    }
    Ok(WorkspaceClaim { name: claim.clone(), is_new: false })
}

fn output(uri: &str) -> Result<Location, ValidationError> {
    match location("spec.output.uri", uri, Purpose::Output)? {
        Location::Claim(place) if place.path.is_empty() => Err(ValidationError::Output { found: uri.to_owned() }),
        Location::File(_) => Err(ValidationError::Output { found: uri.to_owned() }),
        place => Ok(place),
    }
}

/// The fields of an access say nothing about a place that is mounted.
fn check_access(field: &'static str, access: &Access, uris: &[Option<&String>]) -> Result<(), ValidationError> {
    let is_mounted = |uri: &String| uri.starts_with("pvc://") || uri.starts_with("file://");
    let are_mounted = uris.iter().flatten().all(|uri| is_mounted(uri));
    if are_mounted && *access != Access::default() { Err(ValidationError::Access { field }) } else { Ok(()) }
}

fn location(field: &'static str, uri: &str, purpose: Purpose) -> Result<Location, ValidationError> {
    Location::parse(uri, purpose).map_err(|source| ValidationError::Location { field, source })
}

fn optional_location(
    field: &'static str,
    uri: Option<&str>,
    purpose: Purpose,
) -> Result<Option<Location>, ValidationError> {
    uri.map(|uri| location(field, uri, purpose)).transpose()
}

fn decimal(field: &'static str, text: &str) -> Result<Decimal, ValidationError> {
    text.parse().map_err(|source| ValidationError::Decimal { field, source })
}

fn optional_decimal(field: &'static str, text: Option<&str>) -> Result<Option<Decimal>, ValidationError> {
    text.map(|text| decimal(field, text)).transpose()
}

fn positive(field: &'static str, text: &str) -> Result<(), ValidationError> {
    if decimal(field, text)? > Decimal::ZERO { Ok(()) } else { Err(ValidationError::Zero { field }) }
}
