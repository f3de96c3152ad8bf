//! Checks a CllmModel beyond what its schema says, and parses it: everything after this works on a [`ValidModel`].
//!
//! The API server has checked most of this before; local mode has no API server.

use cllm_crds::{Autoscaling, CllmModel, CllmModelSpec, Device, NAME_MAX_LENGTH};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use crate::images::Images;
use crate::location::LocationError;
use crate::model::ResolvedModel;
use crate::naming::{Labels, Owner, queue_labels};
use crate::training::is_name;

const GPU: &str = "nvidia.com/gpu";

/// A model that can be rendered once its checkpoint is resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidModel {
    pub(crate) owner: Owner,
    pub(crate) generation: Option<i64>,
    pub(crate) queue_labels: Labels,
    pub(crate) image: String,
    /// Of the spec without `replicas`.
    pub(crate) spec_hash: String,
    pub(crate) spec: CllmModelSpec,
    pub(crate) reference: ModelReference,
    /// Of the container, the GPU included.
    pub(crate) resources: Option<ResourceRequirements>,
    /// What the status says is served.
    pub(crate) served: Option<ResolvedModel>,
}

/// Where the checkpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelReference {
    /// A place.
    Checkpoint(ResolvedModel),
    /// The result of the CllmTraining of that name.
    Training(String),
}

/// Why a model cannot be served; each sentence says what to change.
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
    /// Both or neither.
    #[error(
        "spec.model needs exactly one of uri (a checkpoint) and trainingRef (the result of a CllmTraining): keep one of the two"
    )]
    Source,
    /// A URI that means nothing to cllm.
    #[error("spec.model.uri: {source}")]
    Location {
        /// What is wrong.
        source: LocationError,
    },
    /// No CllmTraining can be called so.
    #[error("spec.model.trainingRef.name `{found}` cannot be the name of a CllmTraining: correct it")]
    Training {
        /// The name.
        found: String,
    },
    /// A name that does not survive a URL or a label.
    #[error(
        "spec.model.servedName `{found}` must contain only letters, digits and ._:/- and start and end with a letter or digit"
    )]
    ServedName {
        /// The name.
        found: String,
    },
    /// The bounds contradict each other.
    #[error("spec.autoscaling.minReplicas ({min}) is above maxReplicas ({max}): lower the one or raise the other")]
    AutoscalingBounds {
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
    },
    /// Nothing to scale on.
    #[error("spec.autoscaling needs a figure to scale on: set targetTokensPerSecond, targetQueuedRequests, or both")]
    AutoscalingTarget,
}

/// Checks and parses. The image comes from the spec, else from the status (where it was pinned for this spec), else from `images`.
pub fn validate(model: &CllmModel, images: &Images) -> Result<ValidModel, ValidationError> {
    let spec = &model.spec;
    let owner = Owner::of(model);
    if !is_name(&owner.name) {
        return Err(ValidationError::Name { found: owner.name });
    }
    check_served_name(spec.model.served_name.as_deref())?;
    check_autoscaling(spec.autoscaling.as_ref())?;
    let spec_hash = spec_hash(spec);
    Ok(ValidModel {
        generation: model.metadata.generation,
        queue_labels: queue_labels(&model.metadata),
        image: pinned_image(model, &spec_hash, images),
        spec_hash,
        reference: reference(spec)?,
        resources: resources(spec),
        served: served(model),
        spec: spec.clone(),
        owner,
    })
}

impl ValidModel {
    /// Where the checkpoint comes from.
    pub fn reference(&self) -> &ModelReference {
        &self.reference
    }

    /// How many replicas the Deployment gets: within the bounds of the autoscaler, but for 0, which switches it off.
    pub fn replicas(&self) -> u32 {
        match &self.spec.autoscaling {
            Some(Autoscaling { min_replicas, max_replicas, .. }) if self.spec.replicas > 0 => {
                self.spec.replicas.clamp(*min_replicas, *max_replicas)
            }
            _ => self.spec.replicas,
        }
    }

    /// The `model` of the OpenAI API.
    pub fn served_name(&self) -> &str {
        self.spec.model.served_name.as_deref().unwrap_or(&self.owner.name)
    }

    /// Whether a Pod asks for something that a node has only a few of, such as a GPU.
    pub(crate) fn needs_extended_resource(&self) -> bool {
        self.resources.as_ref().is_some_and(names_extended_resource)
    }
}

fn check_served_name(name: Option<&str>) -> Result<(), ValidationError> {
    let Some(name) = name else { return Ok(()) };
    let is_edge = |character: char| character.is_ascii_alphanumeric();
    let is_inner = |character: char| is_edge(character) || "._:/-".contains(character);
    if name.starts_with(is_edge) && name.ends_with(is_edge) && name.chars().all(is_inner) {
        Ok(())
    } else {
        Err(ValidationError::ServedName { found: name.to_owned() })
    }
}

fn check_autoscaling(autoscaling: Option<&Autoscaling>) -> Result<(), ValidationError> {
    let Some(autoscaling) = autoscaling else { return Ok(()) };
    let (min, max) = (autoscaling.min_replicas, autoscaling.max_replicas);
    if min > max {
        return Err(ValidationError::AutoscalingBounds { min, max });
    }
    if autoscaling.target_tokens_per_second.is_none() && autoscaling.target_queued_requests.is_none() {
        return Err(ValidationError::AutoscalingTarget);
    }
    Ok(())
}

fn reference(spec: &CllmModelSpec) -> Result<ModelReference, ValidationError> {
    match (&spec.model.uri, &spec.model.training_ref) {
        (Some(uri), None) => {
            let resolved = ResolvedModel::new(uri, None).map_err(|source| ValidationError::Location { source })?;
            Ok(ModelReference::Checkpoint(resolved))
        }
        (None, Some(training)) if is_name(&training.name) => Ok(ModelReference::Training(training.name.clone())),
        (None, Some(training)) => Err(ValidationError::Training { found: training.name.clone() }),
        (Some(_), Some(_)) | (None, None) => Err(ValidationError::Source),
    }
}

fn pinned_image(model: &CllmModel, spec_hash: &str, images: &Images) -> String {
    if let Some(image) = &model.spec.pod.image {
        return image.clone();
    }
    let pinned = model.status.as_ref().and_then(|status| status.model.as_ref());
    match pinned.filter(|pinned| pinned.spec_hash == spec_hash) {
        Some(pinned) => pinned.image.clone(),
        None if model.spec.device == Device::Cuda => format!("{}-cuda", images.server),
        None => images.server.clone(),
    }
}

fn spec_hash(spec: &CllmModelSpec) -> String {
    let without_replicas = CllmModelSpec { replicas: 0, ..spec.clone() };
    let text = serde_json::to_string(&without_replicas).unwrap_or_default();
    format!("{:x}", Sha256::digest(text))[..16].to_owned()
}

fn served(model: &CllmModel) -> Option<ResolvedModel> {
    let served = model.status.as_ref()?.model.as_ref()?;
    ResolvedModel::new(&served.uri, served.digest.clone()).ok()
}

/// What the spec asks for, and one GPU for `device: cuda` unless the limits name an extended resource.
fn resources(spec: &CllmModelSpec) -> Option<ResourceRequirements> {
    let asked = spec.pod.resources.clone();
    if spec.device == Device::Cpu || asked.as_ref().is_some_and(names_extended_resource) {
        return asked;
    }
    let mut resources = asked.unwrap_or_default();
    let limits = resources.limits.get_or_insert_with(BTreeMap::new);
    limits.insert(GPU.to_owned(), Quantity("1".to_owned()));
    Some(resources)
}

/// Extended resources have a domain that is not Kubernetes' own.
fn names_extended_resource(resources: &ResourceRequirements) -> bool {
    let names = resources.limits.iter().chain(&resources.requests).flat_map(BTreeMap::keys);
    names.into_iter().any(|name| name.contains('/') && !name.contains("kubernetes.io/"))
}
