//! Replicas talk to nobody, unless they download; their API may be reached by whom the spec names, their metrics port by everyone in the cluster.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::access::egress;
use crate::model::render::child_name;
use crate::model::{ResolvedModel, ValidModel};
use crate::naming::{model_labels, selector_labels};
use crate::pod::{HTTP_PORT, METRICS_PORT};
use crate::training::tcp;

/// The policy of all replicas.
pub(super) fn policy(model: &ValidModel, checkpoint: &ResolvedModel) -> NetworkPolicy {
    let labels = model_labels(&model.owner.name);
    let peers = model.spec.network_policy.as_ref().map(|policy| policy.ingress_from.clone()).unwrap_or_default();
    let api = NetworkPolicyIngressRule {
        ports: Some(vec![tcp(HTTP_PORT)]),
        from: Some(peers).filter(|peers| !peers.is_empty()),
    };
    let metrics = NetworkPolicyIngressRule { ports: Some(vec![tcp(METRICS_PORT)]), from: None };
    NetworkPolicy {
        metadata: model.owner.child(&child_name(model), &labels),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(selector_labels(&labels)), match_expressions: None }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![api, metrics]),
            egress: egress(checkpoint.location().remote().map(|uri| (uri, &model.spec.model.access)).into_iter()),
        }),
    }
}
