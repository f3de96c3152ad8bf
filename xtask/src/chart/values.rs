//! The values of the chart: their names, defaults and what they mean. `values.yaml`, its schema and the table of the README are made from this.

#![expect(clippy::doc_markdown, reason = "kinds of Kubernetes are written plainly, as in its own documentation")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// Any fields: Kubernetes checks them when the chart is installed.
type Fields = BTreeMap<String, Value>;
type Labels = BTreeMap<String, String>;

/// Values of the chart cllm.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Values {
    /// What the operator looks after: `Cluster` (all namespaces) or `Namespace` (that of the release, with Roles only); `Definitions`: no
    /// operator, only the CRDs and the roles with which others may install it in their namespaces.
    scope: Scope,
    /// Operators that run; one of them works, the others wait for it to go.
    #[schemars(range(min = 0))]
    replicas: u32,
    /// Where images come from.
    images: Images,
    /// The CRDs.
    crds: Crds,
    /// The rights of the operator.
    rbac: Rbac,
    /// Sidecars for Pods that ask for a model, in namespaces with the label `cllm.dev/injection: enabled`; only with scope `Cluster`.
    injection: Injection,
    /// The service account of the operator.
    service_account: ServiceAccount,
    /// Resources of the operator's container.
    resources: Fields,
    /// What the operator logs, as `RUST_LOG` (`info`, `cllm_operator=debug`, …).
    log_level: String,
    /// How many operators a drain of nodes may take at once.
    pod_disruption_budget: PodDisruptionBudget,
    /// Metrics for autoscalers (`custom.metrics.k8s.io`); only with scope `Cluster`.
    metrics_adapter: MetricsAdapter,
    /// The certificate of what is served over HTTPS.
    certificates: Certificates,
    /// Who may reach the operator.
    network_policy: NetworkPolicy,
    /// Makes a ServiceMonitor of the Prometheus operator.
    service_monitor: ServiceMonitor,
    /// Further arguments of `cllm-operator run`.
    extra_args: Vec<String>,
    /// Further environment variables of the operator, as in PodSpec.
    env: Vec<Fields>,
    /// As in PodSpec.
    node_selector: Labels,
    /// As in PodSpec.
    tolerations: Vec<Fields>,
    /// As in PodSpec.
    affinity: Fields,
    /// As in PodSpec, of the operator's Pods where there is no labelSelector; empty: spread over nodes where that is possible.
    topology_spread_constraints: Vec<Fields>,
    /// As in PodSpec.
    priority_class_name: String,
    /// Further labels of the operator's Pods.
    pod_labels: Labels,
    /// Annotations of the operator's Pods.
    pod_annotations: Labels,
    /// Further labels of every object of the chart.
    common_labels: Labels,
    /// Instead of the name made from that of the release.
    fullname_override: String,
    /// Values shared with other charts; none is read here.
    global: Fields,
}

/// What the operator looks after.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(dead_code, reason = "those that are not the default stand in the schema")]
enum Scope {
    Cluster,
    Namespace,
    Definitions,
}

/// Where images come from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Images {
    /// A registry with all images, as `registry.example/team`.
    registry: String,
    /// The version of all images; empty: that of the chart.
    tag: String,
    /// A full reference of the operator's image, instead of registry and tag.
    operator: String,
    /// A full reference of the image of replicas, instead of registry and tag.
    server: String,
    /// A full reference of the image of trainings, instead of registry and tag.
    trainer: String,
    /// As in PodSpec, for the operator; empty: Kubernetes' default.
    #[schemars(extend("enum" = ["", "Always", "IfNotPresent", "Never"]))]
    pull_policy: String,
    /// Secrets to pull the operator's image with, as in PodSpec.
    pull_secrets: Vec<Fields>,
}

/// The CRDs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Crds {
    /// Installs and upgrades them with the chart, which needs rights in the cluster; uninstalling never removes them.
    install: bool,
}

/// The rights of the operator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rbac {
    /// Makes roles and bindings; else somebody else gives the rights of `files/rbac/`.
    create: bool,
    /// Lets those who may view, edit or administrate a namespace do so with its models and trainings; not with scope `Namespace`.
    aggregate: bool,
}

/// Sidecars for Pods that ask for a model.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Injection {
    /// Makes the webhook. Where no operator answers, Pods are made without a sidecar.
    enabled: bool,
    /// How long the API server waits for an operator.
    #[schemars(range(min = 1, max = 5))]
    timeout_seconds: u32,
}

/// The service account of the operator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceAccount {
    /// Makes it.
    create: bool,
    /// Its name; empty: that of the operator.
    name: String,
    /// Its annotations.
    annotations: Labels,
}

/// How many operators a drain of nodes may take at once.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodDisruptionBudget {
    /// Makes the budget.
    enabled: bool,
    /// At most so many.
    max_unavailable: u32,
}

/// Metrics for autoscalers.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetricsAdapter {
    /// `auto`: offers them where no other provider does; `true`: also without `rbac.create`, and reports another provider as an error; `false`:
    /// does not. Another provider is left alone in any case.
    #[schemars(extend("enum" = ["auto", true, false]))]
    enabled: Value,
}

/// The certificate of what is served over HTTPS.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Certificates {
    /// A Secret that somebody else keeps, as cert-manager does (`tls.crt`, `tls.key`, `ca.crt`; for the host names of the operator's Service);
    /// empty: the operator makes and renews them itself.
    existing_secret: String,
}

/// Who may reach the operator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NetworkPolicy {
    /// Makes the policy.
    enabled: bool,
    /// Peers as in NetworkPolicy that may reach the metrics port, beside `helm test`; empty: everyone. HTTPS, which asks who is there, is open
    /// to everyone: no policy can name the API server.
    ingress_from: Vec<Fields>,
}

/// A ServiceMonitor of the Prometheus operator.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceMonitor {
    /// Makes it; its CRD must be in the cluster.
    enabled: bool,
    /// How often metrics are read.
    interval: String,
    /// Labels by which a Prometheus selects it.
    labels: Labels,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            scope: Scope::Cluster,
            replicas: 2,
            images: Images {
                registry: String::new(),
                tag: String::new(),
                operator: String::new(),
                server: String::new(),
                trainer: String::new(),
                pull_policy: String::new(),
                pull_secrets: Vec::new(),
            },
            crds: Crds { install: true },
            rbac: Rbac { create: true, aggregate: true },
            injection: Injection { enabled: true, timeout_seconds: 3 },
            service_account: ServiceAccount { create: true, name: String::new(), annotations: Labels::new() },
            resources: BTreeMap::from([
                ("requests".to_owned(), serde_json::json!({"cpu": "50m", "memory": "64Mi"})),
                ("limits".to_owned(), serde_json::json!({"memory": "256Mi"})),
            ]),
            log_level: "info".to_owned(),
            pod_disruption_budget: PodDisruptionBudget { enabled: true, max_unavailable: 1 },
            metrics_adapter: MetricsAdapter { enabled: serde_json::json!("auto") },
            certificates: Certificates { existing_secret: String::new() },
            network_policy: NetworkPolicy { enabled: true, ingress_from: Vec::new() },
            service_monitor: ServiceMonitor { enabled: false, interval: "30s".to_owned(), labels: Labels::new() },
            extra_args: Vec::new(),
            env: Vec::new(),
            node_selector: Labels::new(),
            tolerations: Vec::new(),
            affinity: Fields::new(),
            topology_spread_constraints: Vec::new(),
            priority_class_name: String::new(),
            pod_labels: Labels::new(),
            pod_annotations: Labels::new(),
            common_labels: Labels::new(),
            fullname_override: String::new(),
            global: Fields::new(),
        }
    }
}
