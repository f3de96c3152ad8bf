//! The claim between the stages: made with the training and deleted with it.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

use cllm_crds::AccessMode;

use crate::naming::training_labels;
use crate::training::ValidTraining;

const DEFAULT_SIZE: &str = "10Gi";

/// The claim, unless the spec names an existing one.
pub(super) fn claim(training: &ValidTraining) -> Option<PersistentVolumeClaim> {
    if !training.workspace.is_new {
        return None;
    }
    let options = training.spec.workspace.clone().unwrap_or_default();
    let modes = options.access_modes.unwrap_or_else(|| vec![AccessMode::ReadWriteOnce]);
    let size = options.size.unwrap_or_else(|| Quantity(DEFAULT_SIZE.to_owned()));
    Some(PersistentVolumeClaim {
        metadata: training.owner.child(&training.workspace.name, &training_labels(&training.owner.name)),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes.into_iter().map(|mode| mode.as_str().to_owned()).collect()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: options.storage_class_name,
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    })
}
