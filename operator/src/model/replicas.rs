//! How many replicas there are, and how that number goes from a person to the autoscaler and back without a jump.
//!
//! With an autoscaler `spec.replicas` is what that last wrote, through the scale subresource; from there it goes on. Where somebody else wrote
//! it, or left it out so that it became 1, what runs stays and is handed over to the autoscaler. Without one it says how many there are: it
//! was the autoscaler's last word unless a person wrote another.

use cllm_crds::{Autoscaling, CllmModel, CllmModelStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::model::ValidModel;
use crate::naming::FIELD_MANAGER;

impl ValidModel {
    /// How many replicas the Deployment gets: within the bounds of the autoscaler, but for 0, which switches it off.
    pub fn replicas(&self) -> u32 {
        match &self.spec.autoscaling {
            Some(Autoscaling { min_replicas, max_replicas, .. }) if self.spec.replicas > 0 => {
                self.held_replicas.unwrap_or(self.spec.replicas).clamp(*min_replicas, *max_replicas)
            }
            _ => self.spec.replicas,
        }
    }

    /// Where `spec.replicas` is not the autoscaler's word, what runs stays, or else what the autoscaler wanted last: nobody's `kubectl apply`
    /// ends replicas, and neither does turning the autoscaler on.
    #[must_use]
    pub fn holding(
        self,
        model: &CllmModel,
        autoscaler: Option<&HorizontalPodAutoscaler>,
        deployment: Option<&Deployment>,
    ) -> Self {
        let running = deployment.filter(|deployment| is_declared(&deployment.metadata));
        let running = running.and_then(|deployment| deployment.spec.as_ref()?.replicas);
        let wanted = autoscaler.and_then(|autoscaler| Some(autoscaler.status.as_ref()?.desired_replicas));
        let mut counts = [running, wanted].into_iter().flatten().filter_map(|count| u32::try_from(count).ok());
        let held = counts.find(|count| *count > 0 && !is_scaled(&model.metadata));
        Self { held_replicas: held, ..self }
    }

    /// What `spec.replicas` is to become, through the scale subresource: the autoscaler takes it for what it wrote last and counts from
    /// there.
    pub fn handed_over_replicas(&self) -> Option<u32> {
        let is_held = self.held_replicas.is_some() && self.spec.autoscaling.is_some() && !self.spec.paused;
        let effective = self.replicas();
        (is_held && effective != self.spec.replicas).then_some(effective)
    }
}

/// Whether a replica has ever answered, as far as the status tells.
pub(super) fn has_answered(status: Option<&CllmModelStatus>) -> bool {
    status.is_some_and(|status| {
        let was_good = status.model.as_ref().is_some_and(|model| model.last_good.is_some());
        status.ready_replicas > 0 || status.last_downtime.is_some() || was_good
    })
}

/// Whether `spec.replicas` was last written through the scale subresource.
fn is_scaled(model: &ObjectMeta) -> bool {
    model
        .managed_fields
        .iter()
        .flatten()
        .any(|entry| entry.subresource.as_deref() == Some("scale") && wrote_replicas(entry))
}

/// Whether the replicas of a Deployment are what the operator wrote.
fn is_declared(deployment: &ObjectMeta) -> bool {
    deployment
        .managed_fields
        .iter()
        .flatten()
        .any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER) && wrote_replicas(entry))
}

/// Whether `spec.replicas` is as this manager wrote it.
fn wrote_replicas(entry: &ManagedFieldsEntry) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"]["f:replicas"].is_object())
}
