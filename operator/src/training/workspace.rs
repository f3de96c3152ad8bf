//! The claim between the stages: made with the training and deleted with it.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::claim::new_claim;
use crate::naming::training_labels;
use crate::training::ValidTraining;

const DEFAULT_SIZE: &str = "10Gi";

/// The claim, unless the spec names an existing one.
pub(super) fn claim(training: &ValidTraining) -> Option<PersistentVolumeClaim> {
    if !training.workspace.is_new {
        return None;
    }
    let options = training.spec.workspace.clone().unwrap_or_default();
    let size = options.size.unwrap_or_else(|| Quantity(DEFAULT_SIZE.to_owned()));
    let metadata = training.owner.child(&training.workspace.name, &training_labels(&training.owner.name));
    Some(new_claim(metadata, size, options.access_modes, options.storage_class_name))
}
