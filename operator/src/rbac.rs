//! The rights that the operator needs, and no more: what the chart grants and what the tests run it with.
//!
//! In one namespace all of [`rules`] fit into a Role; for all namespaces they are a ClusterRole. [`lease_rules`] are a Role in the
//! namespace of the Lease, [`injection_rules`] a ClusterRole for one object. Nothing is read of Secrets, ConfigMaps or Nodes.

use k8s_openapi::api::rbac::v1::PolicyRule;

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

/// What the webhook for sidecars takes, of its own configuration alone: the chart names it.
pub fn injection_rules() -> Vec<PolicyRule> {
    vec![rule("admissionregistration.k8s.io", &["mutatingwebhookconfigurations"], &["list", "watch", "patch"])]
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
