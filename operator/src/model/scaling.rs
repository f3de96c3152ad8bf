//! The condition ScalingActive: whether the autoscaler has its metrics, and who serves them.

use cllm_crds::conditions::{reasons, types};

use crate::conditions::{Conditions, Truth};
use crate::model::{Observed, ValidModel};

/// Who answers when the autoscaler asks for its metrics (`custom.metrics.k8s.io`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricsApi {
    /// The operator.
    #[default]
    Served,
    /// Nobody that the operator knows of: its own adapter is off.
    Disabled,
    /// The adapter of somebody else, to whom the group belongs.
    Foreign {
        /// Where it is, as a person looks for it.
        owner: String,
    },
}

/// The condition ScalingActive; a model without an autoscaler has none.
pub(super) fn set_scaling(conditions: &mut Conditions, model: &ValidModel, observed: &Observed) {
    if model.spec.autoscaling.is_none() {
        return conditions.remove(types::SCALING_ACTIVE);
    }
    let status = observed.autoscaler.as_ref().and_then(|autoscaler| autoscaler.status.as_ref());
    let mut list = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    match list.find(|condition| condition.type_ == types::SCALING_ACTIVE) {
        Some(own) if own.status == "True" => {
            conditions.set(
                types::SCALING_ACTIVE,
                true,
                reasons::METRICS_AVAILABLE,
                "The autoscaler reads its metrics.",
            );
        }
        Some(own) => {
            let (reason, message) = no_metrics(&observed.metrics_api, own.message.as_deref().unwrap_or_default());
            conditions.set(types::SCALING_ACTIVE, false, reason, message);
        }
        None => {
            let message = "The autoscaler has not looked at its metrics yet.";
            conditions.set(types::SCALING_ACTIVE, Truth::Unknown, reasons::PROGRESSING, message);
        }
    }
}

/// Why there are none; what the autoscaler says of it itself comes last.
fn no_metrics(metrics_api: &MetricsApi, own: &str) -> (&'static str, String) {
    match metrics_api {
        MetricsApi::Served => (reasons::METRICS_UNAVAILABLE, own.to_owned()),
        MetricsApi::Disabled => {
            let why = "The operator does not serve the metrics that the autoscaler reads, and nobody else does: turn its adapter on, or \
                       serve them from Prometheus.";
            (reasons::ADAPTER_DISABLED, format!("{why} It says: {own}"))
        }
        MetricsApi::Foreign { owner } => {
            let why = format!(
                "custom.metrics.k8s.io belongs to {owner}, which does not serve the metrics that the autoscaler reads: teach it to, or let \
                 the operator serve them."
            );
            (reasons::FOREIGN_ADAPTER, format!("{why} It says: {own}"))
        }
    }
}
