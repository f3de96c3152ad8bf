//! The rights that the operator needs, and no more: what the chart grants and what the tests run it with.
//!
//! In one namespace all of [`rules`] fit into a Role; for all namespaces they are a ClusterRole. [`lease_rules`] are a Role in the
//! namespace of the Lease. What is served over HTTPS takes the rest, and the right to delegate where metrics are: `system:auth-delegator` in the
//! cluster and `extension-apiserver-authentication-reader` in kube-system. Of Secrets only the operator's own is read; nothing is read of Nodes.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::adapter::{API_SERVICE, GROUP};

const APPLIED: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// What reconciling both kinds takes.
pub fn rules() -> Vec<PolicyRule> {
    vec![
        rule("cllm.dev", &["cllmmodels", "cllmtrainings"], &["get", "list", "watch"]),
        rule("cllm.dev", &["cllmmodels/status", "cllmtrainings/status"], &["patch"]),
        // What runs is handed over to an autoscaler that is turned on.
        rule("cllm.dev", &["cllmmodels/scale"], &["patch"]),
        // Where OwnerReferencesPermissionEnforcement is on, owner references that block a deletion need it.
        rule("cllm.dev", &["cllmmodels/finalizers", "cllmtrainings/finalizers"], &["update"]),
        rule("apps", &["deployments"], APPLIED),
        rule("", &["services", "persistentvolumeclaims"], APPLIED),
        rule("networking.k8s.io", &["networkpolicies"], APPLIED),
        rule("policy", &["poddisruptionbudgets"], APPLIED),
        rule("autoscaling", &["horizontalpodautoscalers"], APPLIED),
        // Created, changed in a few fields, never applied.
        rule("batch", &["jobs"], APPLIED),
        rule("", &["pods"], &["list", "watch"]),
        // Why a Pod waits for its volumes, and why a Job has no Pods, stands only there.
        rule("", &["events"], &["list"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// What leader election takes.
pub fn lease_rules() -> Vec<PolicyRule> {
    vec![rule("coordination.k8s.io", &["leases"], &["get", "create", "update"])]
}

/// What the webhook for sidecars takes, of its own configuration alone: to give it a key and tell whom to trust.
pub fn injection_rules(webhook: &str) -> Vec<PolicyRule> {
    let resources = &["mutatingwebhookconfigurations"];
    vec![named(rule("admissionregistration.k8s.io", resources, &["get", "list", "watch", "patch"]), webhook)]
}

/// What registering metrics with the API server takes; what owns the registration has the name `owner`. `create` too is for one object:
/// server-side apply asks for it by name.
pub fn registration_rules(owner: &str) -> Vec<PolicyRule> {
    let of_service = rule("apiregistration.k8s.io", &["apiservices"], &["get", "list", "watch", "create", "patch"]);
    vec![named(of_service, API_SERVICE), named(rule("rbac.authorization.k8s.io", &["clusterroles"], &["get"]), owner)]
}

/// What keeping the certificates takes, in the namespace of their Secret.
pub fn certificate_rules(secret: &str) -> Vec<PolicyRule> {
    vec![named(rule("", &["secrets"], &["get", "list", "watch", "create", "patch"]), secret)]
}

/// What reading the certificates takes that somebody else keeps.
pub fn given_certificate_rules(secret: &str) -> Vec<PolicyRule> {
    vec![named(rule("", &["secrets"], &["get", "list", "watch"]), secret)]
}

/// What reading metrics takes: for those who scale.
pub fn metrics_rules() -> Vec<PolicyRule> {
    vec![rule(GROUP, &["*"], &["get", "list", "watch"])]
}

/// Of the one object of that name.
fn named(rule: PolicyRule, name: &str) -> PolicyRule {
    PolicyRule { resource_names: Some(vec![name.to_owned()]), ..rule }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(words(&[group])),
        resources: Some(words(resources)),
        verbs: words(verbs),
        ..PolicyRule::default()
    }
}
