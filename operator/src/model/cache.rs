//! Where downloaded checkpoints are kept: with each Pod, in a claim that somebody made, or in one that is made and deleted with the model.

use std::borrow::Cow;

use cllm_crds::{AccessMode, Cache};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::claim::new_claim;
use crate::model::ValidModel;
use crate::model::render::child_name;
use crate::naming::model_labels;
use crate::pod::CacheVolume;

/// The claim, where one is to be made.
pub(super) fn claim(model: &ValidModel) -> Option<PersistentVolumeClaim> {
    let Cache { claim_name, storage_class_name, size, access_modes } = model.spec.cache.clone()?;
    let size = size.filter(|_| claim_name.is_none())?;
    let metadata = model.owner.child(&new_claim_name(model), &model_labels(&model.owner.name));
    Some(new_claim(metadata, size, access_modes, storage_class_name))
}

/// The volume of a Pod that downloads.
pub(super) fn volume(model: &ValidModel) -> CacheVolume<'_> {
    match &model.spec.cache {
        None => CacheVolume::Pod,
        Some(Cache { claim_name: Some(claim), .. }) => CacheVolume::Claim(Cow::Borrowed(claim)),
        Some(_) => CacheVolume::Claim(Cow::Owned(new_claim_name(model))),
    }
}

/// The volume of a sidecar that downloads. It goes wherever its Pod goes, so that only a claim for several nodes will do.
pub(super) fn volume_of_sidecar(model: &ValidModel) -> CacheVolume<'_> {
    if may_hold_one_node(model) { CacheVolume::Pod } else { volume(model) }
}

/// Whether a second Pod on another node may wait forever for the volume. Of an existing claim nothing is known here.
pub(super) fn may_hold_one_node(model: &ValidModel) -> bool {
    model.spec.cache.as_ref().is_some_and(|cache| {
        !cache.access_modes.as_ref().is_some_and(|modes| modes.contains(&AccessMode::ReadWriteMany))
    })
}

fn new_claim_name(model: &ValidModel) -> String {
    format!("{}-cache", child_name(model))
}
