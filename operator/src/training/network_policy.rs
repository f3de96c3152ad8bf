//! Training Pods talk to nobody but the remote places of the spec and, where several train together, each other; only their metrics port
//! may be reached by others.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::access::{dns, egress};
use crate::naming::{selector_labels, training_labels};
use crate::pod::METRICS_PORT;
use crate::training::{ValidTraining, workers};

/// The policy of all Pods of the training.
pub(super) fn policy(training: &ValidTraining) -> NetworkPolicy {
    let name = &training.owner.name;
    let labels = training_labels(name);
    let metrics = NetworkPolicyIngressRule { ports: Some(vec![tcp(METRICS_PORT)]), from: None };
    let mut outwards = egress(training.remote_places());
    if let Some(to_first) = workers::egress(training) {
        outwards.get_or_insert_with(|| vec![dns()]).push(to_first);
    }
    NetworkPolicy {
        metadata: training.owner.child(&format!("{name}-training"), &labels),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(selector_labels(&labels)), match_expressions: None }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some([metrics].into_iter().chain(workers::ingress(training)).collect()),
            egress: outwards,
        }),
    }
}

/// A TCP port by number.
pub(crate) fn tcp(port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(port)), protocol: Some("TCP".to_owned()), end_port: None }
}
