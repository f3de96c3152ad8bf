//! How many replicas a drain of nodes may take at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::model::ValidModel;
use crate::model::render::child_name;
use crate::naming::{model_labels, selector_labels};

/// The budget. Replicas that do not answer never block a drain.
pub(super) fn budget(model: &ValidModel) -> PodDisruptionBudget {
    let labels = model_labels(&model.owner.name);
    PodDisruptionBudget {
        metadata: model.owner.child(&child_name(model), &labels),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(model.spec.pod_disruption_budget.max_unavailable.clone()),
            selector: Some(LabelSelector { match_labels: Some(selector_labels(&labels)), match_expressions: None }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
