//! Checks a CllmModel beyond what its schema says, and parses it: everything after this works on a [`ValidModel`].
//!
//! The API server has checked most of this before; local mode has no API server.

use cllm_crds::{
    Access, Autoscaling, Cache, CllmModel, CllmModelSpec, Device, ModelSource, NAME_MAX_LENGTH, TrainingReference,
};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

use crate::decimal::{Decimal, DecimalError};
use crate::images::Images;
use crate::location::{LocationError, is_claim_name};
use crate::model::replicas::has_answered;
use crate::model::{Memory, ResolvedModel, TrainingQuery};
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
    /// Of the spec without `replicas` and `paused`.
    pub(crate) spec_hash: String,
    pub(crate) spec: CllmModelSpec,
    pub(crate) reference: ModelReference,
    /// Of the container, the GPU included.
    pub(crate) resources: Option<ResourceRequirements>,
    /// What the status remembers.
    pub(crate) memory: Memory,
    /// What the autoscaler wants or what runs, where `spec.replicas` is not the autoscaler's word.
    pub(crate) held_replicas: Option<u32>,
    /// Before a replica ever did, the autoscaler takes none away.
    pub(crate) has_answered: bool,
}

/// Where the checkpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelReference {
    /// A place.
    Checkpoint(ResolvedModel),
    /// The newest result of these trainings.
    Training(TrainingQuery),
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
    /// No training, or too many.
    #[error(
        "spec.model.trainingRef needs exactly one of name (one training) and selector (the newest of several, by matchLabels): keep one of the two"
    )]
    TrainingReference,
    /// A gate that no figure can be held against.
    #[error("spec.gates.minSpeedup: {source}")]
    Gate {
        /// What is wrong.
        source: DecimalError,
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
    /// No digest.
    #[error("spec.model.digest `{found}` must be sha256: and 64 hexadecimal digits, as status.model.digest shows it")]
    Digest {
        /// What stands there.
        found: String,
    },
    /// Access to a place that is mounted.
    #[error(
        "spec.model.secretRef, endpoint, region, caBundleRef and proxy go with a checkpoint that is downloaded (hf://, s3://, oci://): \
         remove them, or correct spec.model.uri"
    )]
    Access,
    /// An existing claim and a new one at once, or neither.
    #[error(
        "spec.cache needs either claimName (an existing claim) or size (of a new one, with storageClassName and accessModes): keep one of \
         the two"
    )]
    Cache,
    /// The bounds contradict each other.
    #[error("spec.autoscaling.minReplicas ({min}) is above maxReplicas ({max}): lower the one or raise the other")]
    AutoscalingBounds {
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
    },
    /// Nothing to scale on.
    #[error(
        "spec.autoscaling needs a figure to scale on: set targetTokensPerSecond, targetUtilization, targetQueuedRequests, or several of them"
    )]
    AutoscalingTarget,
    /// No load would reach what is scaled on.
    #[error(
        "spec.autoscaling.targetTokensPerSecond ({target}) must be at most nine tenths of spec.server.maxTokensPerSecond ({cap}), or no load \
         would add a replica: lower the one, raise the other, or set targetUtilization instead"
    )]
    UnreachableTarget {
        /// The target.
        target: u32,
        /// The cap.
        cap: u32,
    },
}

/// Checks and parses. The image comes from the spec, else from the status (where it was pinned for this spec), else from `images`.
pub fn validate(model: &CllmModel, images: &Images) -> Result<ValidModel, ValidationError> {
    let spec = &model.spec;
    let owner = Owner::of(model);
    if !is_name(&owner.name) {
        return Err(ValidationError::Name { found: owner.name });
    }
    check_served_name(spec.model.served_name.as_deref())?;
    check_access(&spec.model)?;
    check_cache(spec.cache.as_ref())?;
    check_autoscaling(spec)?;
    check_digest(spec.model.digest.as_deref())?;
    check_gate(spec)?;
    let spec_hash = spec_hash(spec);
    Ok(ValidModel {
        generation: model.metadata.generation,
        queue_labels: queue_labels(&model.metadata),
        image: pinned_image(model, &spec_hash, images),
        memory: Memory::of(model.status.as_ref(), &spec_hash),
        held_replicas: None,
        has_answered: has_answered(model.status.as_ref()),
        spec_hash,
        reference: reference(spec)?,
        resources: resources(spec),
        spec: spec.clone(),
        owner,
    })
}

impl ValidModel {
    /// Where the checkpoint comes from.
    pub fn reference(&self) -> &ModelReference {
        &self.reference
    }

    /// The `model` of the OpenAI API.
    pub fn served_name(&self) -> &str {
        self.spec.model.served_name.as_deref().unwrap_or(&self.owner.name)
    }

    /// What a Pod asks for that a node has only a few of, such as a GPU.
    pub(crate) fn extended_resources(&self) -> BTreeSet<&str> {
        self.resources.as_ref().map(extended_resources).unwrap_or_default()
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

fn check_access(source: &ModelSource) -> Result<(), ValidationError> {
    let is_mounted = source.uri.as_ref().is_some_and(|uri| uri.starts_with("pvc://") || uri.starts_with("file://"));
    if is_mounted && source.access != Access::default() { Err(ValidationError::Access) } else { Ok(()) }
}

fn check_cache(cache: Option<&Cache>) -> Result<(), ValidationError> {
    let Some(Cache { claim_name, storage_class_name, size, access_modes }) = cache else { return Ok(()) };
    let is_new = size.is_some() || storage_class_name.is_some() || access_modes.is_some();
    let is_complete = claim_name.as_deref().map_or(size.is_some(), is_claim_name);
    if claim_name.is_some() != is_new && is_complete { Ok(()) } else { Err(ValidationError::Cache) }
}

fn check_autoscaling(spec: &CllmModelSpec) -> Result<(), ValidationError> {
    let Some(autoscaling) = &spec.autoscaling else { return Ok(()) };
    let Autoscaling {
        min_replicas: min,
        max_replicas: max,
        target_tokens_per_second,
        target_utilization,
        target_queued_requests,
        behavior: _,
    } = autoscaling;
    if min > max {
        return Err(ValidationError::AutoscalingBounds { min: *min, max: *max });
    }
    if [target_tokens_per_second, target_utilization, target_queued_requests].iter().all(|target| target.is_none()) {
        return Err(ValidationError::AutoscalingTarget);
    }
    match (*target_tokens_per_second, spec.server.max_tokens_per_second) {
        (Some(target), Some(cap)) if u64::from(target) * 10 > u64::from(cap) * 9 => {
            Err(ValidationError::UnreachableTarget { target, cap })
        }
        _ => Ok(()),
    }
}

fn check_digest(digest: Option<&str>) -> Result<(), ValidationError> {
    let Some(digest) = digest else { return Ok(()) };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match digest.strip_prefix("sha256:") {
        Some(digits) if digits.len() == 64 && digits.bytes().all(is_digit) => Ok(()),
        _ => Err(ValidationError::Digest { found: digest.to_owned() }),
    }
}

fn check_gate(spec: &CllmModelSpec) -> Result<(), ValidationError> {
    let Some(bar) = spec.gates.as_ref().and_then(|gates| gates.min_speedup.as_ref()) else { return Ok(()) };
    bar.parse::<Decimal>().map(|_| ()).map_err(|source| ValidationError::Gate { source })
}

fn reference(spec: &CllmModelSpec) -> Result<ModelReference, ValidationError> {
    match (&spec.model.uri, &spec.model.training_ref) {
        (Some(uri), None) => {
            let resolved = ResolvedModel::new(uri, spec.model.digest.clone())
                .map_err(|source| ValidationError::Location { source })?;
            Ok(ModelReference::Checkpoint(resolved))
        }
        (None, Some(training)) => query(training).map(ModelReference::Training),
        (Some(_), Some(_)) | (None, None) => Err(ValidationError::Source),
    }
}

fn query(training: &TrainingReference) -> Result<TrainingQuery, ValidationError> {
    match (&training.name, &training.selector) {
        (Some(name), None) if is_name(name) => Ok(TrainingQuery::Name(name.clone())),
        (Some(name), None) => Err(ValidationError::Training { found: name.clone() }),
        (None, Some(selector)) if !selector.match_labels.is_empty() => {
            Ok(TrainingQuery::Labels(selector.match_labels.clone()))
        }
        (None | Some(_), _) => Err(ValidationError::TrainingReference),
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
    let lasting = CllmModelSpec { replicas: 0, paused: false, ..spec.clone() };
    let text = serde_json::to_string(&lasting).unwrap_or_default();
    format!("{:x}", Sha256::digest(text))[..16].to_owned()
}

/// What the spec asks for, and one GPU for `device: cuda` unless the limits name an extended resource.
fn resources(spec: &CllmModelSpec) -> Option<ResourceRequirements> {
    let asked = spec.pod.resources.clone();
    if spec.device == Device::Cpu || asked.as_ref().is_some_and(|asked| !extended_resources(asked).is_empty()) {
        return asked;
    }
    let mut resources = asked.unwrap_or_default();
    let limits = resources.limits.get_or_insert_with(BTreeMap::new);
    limits.insert(GPU.to_owned(), Quantity("1".to_owned()));
    Some(resources)
}

/// Extended resources have a domain that is not Kubernetes' own.
fn extended_resources(resources: &ResourceRequirements) -> BTreeSet<&str> {
    let names = resources.limits.iter().chain(&resources.requests).flat_map(BTreeMap::keys);
    names.map(String::as_str).filter(|name| name.contains('/') && !name.contains("kubernetes.io/")).collect()
}
