//! Exactly what the operator may do: the chart's roles are generated from this, and a missing verb fails the tests on a cluster.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// What is needed in every namespace that is looked after: as a ClusterRole for all of them, or as a Role in one.
pub fn resources() -> Vec<PolicyRule> {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const OWN: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];
    vec![
        rule("cllm.dev", &["cllmmodels", "cllmtrainings"], &READ),
        rule("cllm.dev", &["cllmmodels/status", "cllmtrainings/status"], &["patch"]),
        // Where owner references are policed, to make children of a resource one must be allowed to block its deletion.
        rule("cllm.dev", &["cllmmodels/finalizers", "cllmtrainings/finalizers"], &["update"]),
        rule("", &["services", "persistentvolumeclaims"], &OWN),
        rule("apps", &["deployments"], &OWN),
        rule("batch", &["jobs"], &OWN),
        rule("autoscaling", &["horizontalpodautoscalers"], &OWN),
        rule("networking.k8s.io", &["networkpolicies"], &OWN),
        rule("policy", &["poddisruptionbudgets"], &OWN),
        // Never Secrets or ConfigMaps: Pods mount them, the operator does not read them.
        rule("", &["pods"], &READ),
        rule("", &["events"], &["list"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// What is needed in the operator's own namespace, to agree with others on who acts.
pub fn leader() -> Vec<PolicyRule> {
    vec![rule("coordination.k8s.io", &["leases"], &["get", "create", "update"])]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}
