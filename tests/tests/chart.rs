//! Everything that the chart makes, with each of its values changed, is accepted where pod security is enforced, without a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_operator::https::Closing;
use cllm_tests::product::{RELEASE, chart, repository, service_monitor_definition};
use cllm_tests::{ControlPlane, TestNamespace, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
/// Before an operator is killed, in seconds.
const GRACE: u64 = 30;

/// What the chart makes of its defaults: `kind/name`, `cllm-operator` left out of the names.
const OF_DEFAULTS: [&str; 24] = [
    "ClusterRole/",
    "ClusterRole/-edit",
    "ClusterRole/-injection",
    "ClusterRole/-metrics",
    "ClusterRole/-view",
    "ClusterRoleBinding/",
    "ClusterRoleBinding/-delegator",
    "ClusterRoleBinding/-injection",
    "ClusterRoleBinding/-metrics",
    "CustomResourceDefinition/cllmmodels.cllm.dev",
    "CustomResourceDefinition/cllmtrainings.cllm.dev",
    "Deployment/",
    "MutatingWebhookConfiguration/",
    "NetworkPolicy/",
    "Pod/-test",
    "PodDisruptionBudget/",
    "Role/-certificates",
    "Role/-leader",
    "RoleBinding/-authentication-reader",
    "RoleBinding/-certificates",
    "RoleBinding/-leader",
    "Secret/-certificates",
    "Service/",
    "ServiceAccount/",
];
const DEFINITIONS: [&str; 2] =
    ["CustomResourceDefinition/cllmmodels.cllm.dev", "CustomResourceDefinition/cllmtrainings.cllm.dev"];
const CLUSTER_ROLES: [&str; 4] = ["ClusterRole/", "ClusterRole/-edit", "ClusterRole/-view", "ClusterRoleBinding/"];
const LEADER: [&str; 2] = ["Role/-leader", "RoleBinding/-leader"];
/// For metrics for autoscalers.
const ADAPTER: [&str; 4] = [
    "ClusterRole/-metrics",
    "ClusterRoleBinding/-delegator",
    "ClusterRoleBinding/-metrics",
    "RoleBinding/-authentication-reader",
];
/// For sidecars, beside the webhook.
const INJECTION: [&str; 2] = ["ClusterRole/-injection", "ClusterRoleBinding/-injection"];
const WEBHOOK: &str = "MutatingWebhookConfiguration/";
/// For what both are served with, beside the Secret.
const CERTIFICATES: [&str; 2] = ["Role/-certificates", "RoleBinding/-certificates"];
const SECRET: &str = "Secret/-certificates";

/// Values, what the chart makes more and less for them, and places (`kind/name`, JSON pointer) where they must be found, or nothing (null).
struct Variant {
    values: Value,
    more: Vec<&'static str>,
    less: Vec<&'static str>,
    found: Vec<(&'static str, &'static str, Value)>,
}

fn variant(values: Value) -> Variant {
    Variant { values, more: Vec::new(), less: Vec::new(), found: Vec::new() }
}

impl Variant {
    fn with(self, more: &[&'static str]) -> Self {
        Self { more: more.to_vec(), ..self }
    }

    fn without(self, less: &[&'static str]) -> Self {
        Self { less: less.to_vec(), ..self }
    }

    fn found(mut self, object: &'static str, pointer: &'static str, value: Value) -> Self {
        self.found.push((object, pointer, value));
        self
    }

    /// In the Pod template of the operator.
    fn in_pod(self, pointer: &'static str, value: Value) -> Self {
        self.found("Deployment/", pointer, value)
    }
}

fn variants() -> Vec<Variant> {
    [scopes(), parts(), https(), injection(), adapter(), images(), pods(), names()].into_iter().flatten().collect()
}

/// What only an operator for all namespaces has.
fn of_the_cluster() -> Vec<&'static str> {
    [&CLUSTER_ROLES[..], &ADAPTER, &INJECTION, &CERTIFICATES, &[WEBHOOK, SECRET]].concat()
}

/// All roles and bindings.
fn roles() -> Vec<&'static str> {
    [&CLUSTER_ROLES[..], &ADAPTER, &INJECTION, &CERTIFICATES, &LEADER].concat()
}

fn scopes() -> Vec<Variant> {
    let argument = |value: &str| json!(format!("--namespace={value}"));
    vec![
        definitions(),
        variant(json!({})).in_pod("/spec/replicas", json!(2)),
        variant(json!({"scope": "Namespace"}))
            .with(&["Role/", "RoleBinding/"])
            .without(&of_the_cluster())
            .in_pod("/spec/template/spec/containers/0/args/4", argument("NAMESPACE"))
            .in_pod("/spec/template/spec/containers/0/args/8", Value::Null),
        variant(json!({"scope": "Namespace", "crds": {"install": false}}))
            .with(&["Role/", "RoleBinding/"])
            .without(&[&of_the_cluster()[..], &DEFINITIONS].concat()),
        variant(json!({"scope": "Namespace", "crds": {"install": false}, "rbac": {"create": false}}))
            .without(&[&of_the_cluster()[..], &DEFINITIONS, &LEADER].concat()),
    ]
}

/// What an administrator of the cluster installs for those who have an operator in their namespace.
fn definitions() -> Variant {
    let roles = ["ClusterRole/-edit", "ClusterRole/-view"];
    let less: Vec<_> =
        OF_DEFAULTS.into_iter().filter(|name| ![&DEFINITIONS[..], &roles].concat().contains(name)).collect();
    let values = json!({"scope": "Definitions", "serviceMonitor": {"enabled": true}});
    variant(values).with(&["ClusterRole/-install"]).without(&less)
}

fn parts() -> Vec<Variant> {
    let peers = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    vec![
        variant(json!({"replicas": 1})).in_pod("/spec/replicas", json!(1)),
        // What owns the registration of the adapter goes with the last operator.
        variant(json!({"replicas": 0}))
            .without(&["ClusterRole/-metrics", "ClusterRoleBinding/-metrics"])
            .in_pod("/spec/replicas", json!(0)),
        variant(json!({"crds": {"install": false}})).without(&DEFINITIONS),
        variant(json!({"rbac": {"create": false}}))
            .without(&roles())
            .in_pod("/spec/template/spec/containers/0/args/7", json!("--metrics-adapter=false")),
        variant(json!({"rbac": {"aggregate": false}})).without(&["ClusterRole/-edit", "ClusterRole/-view"]),
        variant(json!({"serviceAccount": {"create": false, "name": "default"}}))
            .without(&["ServiceAccount/"])
            .in_pod("/spec/template/spec/serviceAccountName", json!("default"))
            .found("ClusterRoleBinding/", "/subjects/0/name", json!("default")),
        variant(json!({"serviceAccount": {"name": "other", "annotations": {"example.com/role": "arn:1"}}}))
            .with(&["ServiceAccount/other"])
            .without(&["ServiceAccount/"])
            .found("ServiceAccount/other", "/metadata/annotations/example.com~1role", json!("arn:1"))
            .found("RoleBinding/-leader", "/subjects/0/name", json!("other")),
        variant(json!({"podDisruptionBudget": {"enabled": false}})).without(&["PodDisruptionBudget/"]),
        variant(json!({"podDisruptionBudget": {"maxUnavailable": 2}})).found(
            "PodDisruptionBudget/",
            "/spec/maxUnavailable",
            json!(2),
        ),
        variant(json!({"networkPolicy": {"enabled": false}})).without(&["NetworkPolicy/"]),
        variant(json!({"networkPolicy": {"ingressFrom": peers}}))
            .found("NetworkPolicy/", "/spec/ingress/0/from/0", peers[0].clone())
            // Whoever may ask the operator: `helm test` still does.
            .found(
                "NetworkPolicy/",
                "/spec/ingress/0/from/1/podSelector/matchLabels/app.kubernetes.io~1name",
                json!("cllm-operator-test"),
            ),
        variant(json!({"serviceMonitor": {"enabled": true}})).with(&["ServiceMonitor/"]),
        variant(json!({"serviceMonitor": {"enabled": true, "interval": "1m", "labels": {"release": "prometheus"}}}))
            .with(&["ServiceMonitor/"])
            .found("ServiceMonitor/", "/spec/endpoints/0/interval", json!("1m"))
            .found("ServiceMonitor/", "/metadata/labels/release", json!("prometheus")),
    ]
}

/// What both are served with.
fn https() -> Vec<Variant> {
    let secret = "/rules/0/resourceNames/0";
    vec![
        variant(json!({}))
            .in_pod("/spec/template/spec/containers/0/args/8", json!("--service-name=cllm-operator"))
            .in_pod("/spec/template/spec/containers/0/args/9", json!("--service-namespace=NAMESPACE"))
            .in_pod(
                "/spec/template/spec/containers/0/args/10",
                json!("--certificate-secret=cllm-operator-certificates"),
            )
            .in_pod("/spec/template/spec/containers/0/ports/1/name", json!("https"))
            .in_pod("/spec/template/spec/terminationGracePeriodSeconds", json!(GRACE))
            .found("Service/", "/spec/ports/1/targetPort", json!("https"))
            .found("NetworkPolicy/", "/spec/ingress/1/ports/0/port", json!("https"))
            .found("Role/-certificates", secret, json!("cllm-operator-certificates")),
        variant(json!({"certificates": {"existingSecret": "by-cert-manager"}}))
            .without(&[SECRET])
            .in_pod("/spec/template/spec/containers/0/args/10", json!("--certificate-secret=by-cert-manager"))
            .in_pod("/spec/template/spec/containers/0/args/11", json!("--certificates-given"))
            .found("Role/-certificates", secret, json!("by-cert-manager"))
            .found("Role/-certificates", "/rules/0/verbs", json!(["get", "list", "watch"])),
        variant(json!({"injection": {"enabled": false}, "metricsAdapter": {"enabled": false}}))
            .without(&[&ADAPTER[..], &INJECTION, &CERTIFICATES, &[WEBHOOK, SECRET]].concat())
            .in_pod("/spec/template/spec/containers/0/args/7", Value::Null)
            .in_pod("/spec/template/spec/containers/0/ports/1", Value::Null)
            .found("Service/", "/spec/ports/1", Value::Null)
            .found("NetworkPolicy/", "/spec/ingress/1", Value::Null),
    ]
}

fn injection() -> Vec<Variant> {
    vec![
        variant(json!({"injection": {"enabled": false}}))
            .without(&[&INJECTION[..], &[WEBHOOK]].concat())
            .in_pod("/spec/template/spec/containers/0/args/12", Value::Null),
        variant(json!({"injection": {"timeoutSeconds": 5}}))
            .found(WEBHOOK, "/webhooks/0/timeoutSeconds", json!(5))
            .found(WEBHOOK, "/webhooks/0/failurePolicy", json!("Ignore"))
            .found(WEBHOOK, "/webhooks/0/clientConfig/service/namespace", json!("NAMESPACE"))
            // What the operator writes.
            .found(WEBHOOK, "/webhooks/0/clientConfig/service/path", Value::Null)
            .found(WEBHOOK, "/webhooks/0/clientConfig/caBundle", Value::Null)
            .found(WEBHOOK, "/webhooks/0/namespaceSelector/matchExpressions/0/values", json!(["enabled"]))
            .found(WEBHOOK, "/webhooks/0/namespaceSelector/matchExpressions/1/values/0", json!("kube-system"))
            .found(WEBHOOK, "/webhooks/0/namespaceSelector/matchExpressions/1/values/1", json!("NAMESPACE"))
            .found("ClusterRole/-injection", "/rules/0/resourceNames", json!(["cllm-operator"]))
            .in_pod("/spec/template/spec/containers/0/args/12", json!("--injection-webhook=cllm-operator")),
    ]
}

fn adapter() -> Vec<Variant> {
    vec![
        variant(json!({}))
            .in_pod("/spec/template/spec/containers/0/args/7", json!("--metrics-adapter=auto"))
            .in_pod("/spec/template/spec/containers/0/args/11", json!("--owner-cluster-role=cllm-operator-metrics"))
            .found("ClusterRoleBinding/-metrics", "/subjects/0/name", json!("horizontal-pod-autoscaler"))
            .found("RoleBinding/-authentication-reader", "/metadata/namespace", json!("kube-system")),
        variant(json!({"metricsAdapter": {"enabled": false}}))
            .without(&ADAPTER)
            .in_pod("/spec/template/spec/containers/0/args/7", json!("--metrics-adapter=false"))
            .in_pod("/spec/template/spec/containers/0/args/11", json!("--injection-webhook=cllm-operator")),
        // Who makes the roles themselves says so.
        variant(json!({"metricsAdapter": {"enabled": true}, "rbac": {"create": false}}))
            .without(&roles())
            .in_pod("/spec/template/spec/containers/0/args/7", json!("--metrics-adapter=true")),
    ]
}

fn images() -> Vec<Variant> {
    let registry = json!({"registry": "registry.example:5000/team/", "tag": "1.2.3"});
    let references = json!({
        "operator": "registry.example/o@sha256:0a", "server": "registry.example/cllm-server-cuda:1",
        "trainer": "registry.example/cllm-trainer-cuda:1", "pullPolicy": "Always", "pullSecrets": [{"name": "registry"}],
    });
    vec![
        variant(json!({"images": registry}))
            .in_pod("/spec/template/spec/containers/0/image", json!("registry.example:5000/team/cllm-operator:1.2.3"))
            .in_pod(
                "/spec/template/spec/containers/0/args/2",
                json!("--server-image=registry.example:5000/team/cllm-server:1.2.3"),
            )
            .in_pod(
                "/spec/template/spec/containers/0/args/3",
                json!("--trainer-image=registry.example:5000/team/cllm-trainer:1.2.3"),
            ),
        // What serves and trains with CUDA.
        variant(json!({"images": references}))
            .in_pod("/spec/template/spec/containers/0/image", json!("registry.example/o@sha256:0a"))
            .in_pod(
                "/spec/template/spec/containers/0/args/2",
                json!("--server-image=registry.example/cllm-server-cuda:1"),
            )
            .in_pod(
                "/spec/template/spec/containers/0/args/3",
                json!("--trainer-image=registry.example/cllm-trainer-cuda:1"),
            )
            .in_pod("/spec/template/spec/containers/0/imagePullPolicy", json!("Always"))
            .in_pod("/spec/template/spec/imagePullSecrets/0/name", json!("registry"))
            .found("Pod/-test", "/spec/imagePullSecrets/0/name", json!("registry"))
            .found("Pod/-test", "/spec/containers/0/imagePullPolicy", json!("Always")),
    ]
}

fn pods() -> Vec<Variant> {
    let toleration = json!({"key": "infra", "operator": "Exists", "effect": "NoSchedule"});
    let spread = json!({"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let other =
        json!({"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}});
    vec![
        variant(json!({"resources": {"limits": {"memory": "1Gi"}}}))
            .in_pod("/spec/template/spec/containers/0/resources/limits/memory", json!("1Gi")),
        variant(json!({"logLevel": "cllm_operator=debug,info"}))
            .in_pod("/spec/template/spec/containers/0/env/0/value", json!("cllm_operator=debug,info")),
        variant(json!({"extraArgs": ["--leader-election-name=other"], "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]}))
            .in_pod("/spec/template/spec/containers/0/args/13", json!("--leader-election-name=other"))
            .in_pod("/spec/template/spec/containers/0/env/1/name", json!("HTTPS_PROXY")),
        variant(json!({
            "nodeSelector": {"infra": "true"}, "tolerations": [toleration], "affinity": affinity,
            "topologySpreadConstraints": [spread, other], "priorityClassName": "system-cluster-critical",
        }))
            .in_pod("/spec/template/spec/nodeSelector/infra", json!("true"))
            .in_pod("/spec/template/spec/tolerations/0", toleration.clone())
            .in_pod("/spec/template/spec/affinity", affinity.clone())
            .in_pod("/spec/template/spec/topologySpreadConstraints/0/maxSkew", json!(2))
            .in_pod(
                "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels/app.kubernetes.io~1instance",
                json!("cllm"),
            )
            .in_pod("/spec/template/spec/topologySpreadConstraints/1/labelSelector", json!({}))
            .in_pod("/spec/template/spec/priorityClassName", json!("system-cluster-critical"))
            .found("Pod/-test", "/spec/nodeSelector/infra", json!("true"))
            .found("Pod/-test", "/spec/tolerations/0", toleration.clone()),
        // One key twice, and one of the chart's own.
        variant(json!({
            "podLabels": {"team": "pods", "app.kubernetes.io/name": "other"}, "podAnnotations": {"example.com/a": "1"},
            "commonLabels": {"team": "all", "app.kubernetes.io/instance": "other"},
        }))
            .in_pod("/spec/template/metadata/labels/team", json!("pods"))
            .in_pod("/spec/template/metadata/labels/app.kubernetes.io~1name", json!("cllm-operator"))
            .in_pod("/spec/template/metadata/annotations/example.com~1a", json!("1")),
    ]
}

fn names() -> Vec<Variant> {
    let renamed: Vec<_> = OF_DEFAULTS.into_iter().filter(|name| !DEFINITIONS.contains(name)).collect();
    let other = [
        "ClusterRole/other",
        "ClusterRole/other-edit",
        "ClusterRole/other-injection",
        "ClusterRole/other-metrics",
        "ClusterRole/other-view",
        "ClusterRoleBinding/other",
        "ClusterRoleBinding/other-delegator",
        "ClusterRoleBinding/other-injection",
        "ClusterRoleBinding/other-metrics",
        "Deployment/other",
        "MutatingWebhookConfiguration/other",
        "NetworkPolicy/other",
        "Pod/other-test",
        "PodDisruptionBudget/other",
        "Role/other-certificates",
        "Role/other-leader",
        "RoleBinding/other-authentication-reader",
        "RoleBinding/other-certificates",
        "RoleBinding/other-leader",
        "Secret/other-certificates",
        "Service/other",
        "ServiceAccount/other",
    ];
    vec![variant(json!({"fullnameOverride": "other", "global": {"imageRegistry": "x"}})).with(&other).without(&renamed)]
}

/// The shared cluster with the definition of a `ServiceMonitor`.
async fn cluster() -> anyhow::Result<&'static ControlPlane> {
    let cluster = ControlPlane::shared().await?;
    let definition = service_monitor_definition().await?.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &definition]).await?;
    cluster.kubectl(&["wait", "--for=condition=Established", "-f", &definition, "--timeout=30s"]).await?;
    Ok(cluster)
}

/// What the chart makes, as helm prints it.
async fn rendered(cluster: &ControlPlane, namespace: &str, values: &Value) -> anyhow::Result<String> {
    let arguments = ["template", RELEASE, &chart(), "-n", namespace, "-f", "-"];
    let output = cluster.helm_with_input(&arguments, &values.to_string()).await?;
    ensure!(output.stderr.is_empty(), "helm warns: {}", output.stderr);
    Ok(output.stdout)
}

/// By `kind/name`, `cllm-operator` left out; one key twice in an object is an error.
fn objects(manifest: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
    let named = |object: Value| {
        let [kind, name] = [&object["kind"], &object["metadata"]["name"]].map(|text| text.as_str().unwrap_or_default());
        (format!("{kind}/{}", name.trim_start_matches("cllm-operator")), object)
    };
    Ok(documents.into_iter().map(named).collect())
}

async fn check(cluster: &ControlPlane, namespace: &TestNamespace, variant: &Variant) -> anyhow::Result<()> {
    let manifest = rendered(cluster, namespace.name(), &variant.values).await?;
    let objects = objects(&manifest)?;
    let made: BTreeSet<_> = objects.keys().map(String::as_str).collect();
    let kept = OF_DEFAULTS.iter().copied().filter(|name| !variant.less.contains(name));
    let wanted: BTreeSet<_> = kept.chain(variant.more.iter().copied()).collect();
    ensure!(made == wanted, "it makes {made:?}, not {wanted:?}");
    for (object, pointer, value) in &variant.found {
        let value = match value.as_str() {
            Some(text) => json!(text.replace("NAMESPACE", namespace.name())),
            None => value.clone(),
        };
        let found = objects.get(*object).and_then(|object| object.pointer(pointer)).unwrap_or(&Value::Null);
        ensure!(*found == value, "{object} {pointer} is {found}, not {value}");
    }
    let labels = variant.values["commonLabels"]["team"].as_str().map(|team| ("team", team));
    for (name, object) in &objects {
        let (key, value) = labels.unwrap_or(("app.kubernetes.io/part-of", "cllm"));
        ensure!(object["metadata"]["labels"][key] == value, "{name} has labels {}", object["metadata"]["labels"]);
    }
    let arguments = ["apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-"];
    let applied = cluster.kubectl_with_input(&arguments, &manifest).await?;
    ensure!(applied.stderr.is_empty(), "the API server warns: {}", applied.stderr);
    let accepted = applied.stdout.lines().filter(|line| line.ends_with("(server dry run)")).count();
    ensure!(accepted == objects.len(), "{} objects, and the API server says: {}", objects.len(), applied.stdout);
    Ok(())
}

#[tokio::test]
async fn whatever_the_values_everything_is_accepted_without_a_warning_where_restricted_is_enforced()
-> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "chart").await?;
    for variant in variants() {
        check(cluster, &namespace, &variant).await.with_context(|| variant.values.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn who_administrates_a_namespace_may_install_an_operator_for_it_alone_once_the_definitions_are_there()
-> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "tenant").await?;
    let name = namespace.name();
    cluster.kubectl(&["create", "rolebinding", "tenant", "-n", name, "--clusterrole=admin", "--user=tenant"]).await?;
    let definitions = rendered(cluster, name, &json!({"scope": "Definitions"})).await?;
    let operator = rendered(cluster, name, &json!({"scope": "Namespace", "crds": {"install": false}})).await?;
    // A RoleBinding is checked against its Role, which must be there: no dry run.
    let install =
        async || cluster.kubectl_with_input(&["apply", "--server-side", "--as=tenant", "-f", "-"], &operator).await;
    let refused = install().await.err().context("it was installed without definitions")?.to_string();
    ensure!(refused.contains("attempting to grant RBAC permissions not currently held"), "{refused}");
    cluster.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &definitions).await?;
    // Roles are aggregated a moment later.
    eventually("the operator to be installed", SOON, async || install().await.map_err(|error| error.to_string()))
        .await?;
    Ok(())
}

#[test]
fn an_operator_has_time_to_end_before_it_is_killed() {
    let spare = Duration::from_secs(GRACE).saturating_sub(Closing::default().within());
    assert!(spare >= Duration::from_secs(10), "only {spare:?} for everything else");
}

/// The paths of all values; an empty map is a value.
fn paths(values: &Value, prefix: &str, found: &mut BTreeMap<String, Value>) {
    match values {
        Value::Object(fields) if !fields.is_empty() && prefix != "/resources" => {
            fields.iter().for_each(|(name, value)| paths(value, &format!("{prefix}/{name}"), found));
        }
        value => drop(found.insert(prefix.to_owned(), value.clone())),
    }
}

#[test]
fn each_value_of_the_chart_is_changed_by_a_variant() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(repository().join("charts/cllm/values.yaml"))?;
    let mut defaults = BTreeMap::new();
    paths(&serde_saphyr::from_str(&text)?, "", &mut defaults);
    ensure!(defaults.len() > 30, "only {} values", defaults.len());
    let variants = variants();
    for (path, default) in defaults {
        let is_changed = |variant: &Variant| variant.values.pointer(&path).is_some_and(|value| *value != default);
        ensure!(variants.iter().any(is_changed), "no variant changes {path}");
    }
    Ok(())
}
