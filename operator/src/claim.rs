//! A PersistentVolumeClaim that is made for a resource and deleted with it.

use std::collections::BTreeMap;

use cllm_crds::AccessMode;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The claim; without access modes it is for one node.
pub(crate) fn new_claim(
    metadata: ObjectMeta,
    size: Quantity,
    access_modes: Option<Vec<AccessMode>>,
    storage_class_name: Option<String>,
) -> PersistentVolumeClaim {
    let modes = access_modes.unwrap_or_else(|| vec![AccessMode::ReadWriteOnce]);
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes.into_iter().map(|mode| mode.as_str().to_owned()).collect()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name,
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
