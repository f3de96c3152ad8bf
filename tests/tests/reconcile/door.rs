//! The door at which the API server asks about sidecars, over plain HTTP: what it tells whom, and its key.

use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cllm_operator::Images;
use cllm_operator::adapter::{Mode, ServiceAddress};
use cllm_operator::certificates::{Rules, Source, Stored};
use cllm_operator::https::{Closing, HttpsSettings};
use cllm_operator::injection::{Injector, Key, Models, Registration, WEBHOOK, registration, router};
use cllm_operator::rbac::{certificate_rules, injection_rules, rules};
use cllm_tests::{ControlPlane, TestNamespace, eventually, eventually_object};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::injection::of_chart;
use crate::rights::account;
use crate::support::{Operator, SOON, cluster, create, model_resource};

pub(crate) const SECRET: &str = "cllm-operator-certificates";

/// The address of a door with that key.
async fn open(models: Models, key: &Key) -> anyhow::Result<(String, Injector)> {
    let (_, registration) = watch::channel(Registration::Known(key.clone()));
    let injector = Injector::new(models, Images::of_version("registry.example/", "test"), registration);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let server = axum::serve(listener, router(injector.clone())).into_future();
    tokio::spawn(server);
    Ok((address, injector))
}

pub(crate) fn review(namespace: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "namespace": namespace, "operation": "CREATE", "dryRun": true,
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "system:apiserver"},
            "object": {
                "metadata": {"namespace": namespace, "labels": {"cllm.dev/inject": "text2sql"}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            },
        },
    })
}

async fn ask(url: &str, review: &Value) -> anyhow::Result<(u16, String)> {
    let answer = reqwest::Client::new().post(url).json(review).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// What the answer says in plain text: the patch is encoded.
fn decoded(text: &str) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(text)?;
    ensure!(answer["response"]["allowed"] == true, "{text}");
    let patch = answer["response"]["patch"].as_str().map(|patch| STANDARD.decode(patch)).transpose()?;
    Ok(format!("{text} {}", String::from_utf8(patch.unwrap_or_default())?))
}

#[tokio::test]
async fn who_does_not_know_the_key_learns_nothing_and_who_does_learns_of_one_namespace() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "door").await?;
    let stranger = TestNamespace::create(cluster, "stranger").await?;
    let mut model = model_resource(&json!({"uri": "hf://org/hidden-name"}))?;
    model.spec.pod.env = serde_json::from_value(json!([{"name": "TOKEN", "value": "hidden-value"}]))?;
    create(&namespace, &model).await?;
    let (models, reads) = Models::follow(Api::all(cluster.client()?));
    tokio::spawn(reads);
    let key = Key::random();
    let (address, injector) = open(models, &key).await?;
    eventually("the models to be read", SOON, async || if injector.is_ready() { Ok(()) } else { Err("not yet") })
        .await?;

    let known = format!("{address}{}", key.path());
    let (code, told) = ask(&known, &review(namespace.name())).await?;
    ensure!(code == 200 && decoded(&told)?.contains("hidden-name"), "{code} {told}");
    let (code, told) = ask(&known, &review(stranger.name())).await?;
    ensure!(code == 200 && !decoded(&told)?.contains("hidden"), "{code} {}", decoded(&told)?);
    let (wrong, right) = (Key::random().path(), key.path());
    let short = &right[..right.len() - 1];
    for path in ["/", "/inject", "/inject/", "/inject/0", wrong.as_str(), short] {
        let (code, told) = ask(&format!("{address}{path}"), &review(namespace.name())).await?;
        ensure!(code == 404 && told.is_empty(), "{path}: {code} {told}");
    }
    Ok(())
}

#[tokio::test]
async fn before_the_models_are_read_pods_are_made_without_a_sidecar() -> anyhow::Result<()> {
    // Nobody runs the work that reads them.
    let (models, _reads) = Models::follow(Api::all(cluster().await?.client()?));
    let key = Key::random();
    let (address, injector) = open(models, &key).await?;
    ensure!(!injector.is_ready(), "it has read no model");
    let (code, told) = ask(&format!("{address}{}", key.path()), &review("team")).await?;
    let told = decoded(&told)?;
    ensure!(code == 200 && told.contains("had not read the CllmModels yet"), "{code} {told}");
    ensure!(told.contains("cllm.dev/injection-refused") && !told.contains("/spec"), "{told}");
    Ok(())
}

#[tokio::test]
async fn before_it_is_known_who_asks_nobody_is_sent_there() -> anyhow::Result<()> {
    let (models, reads) = Models::follow(Api::all(cluster().await?.client()?));
    tokio::spawn(reads);
    let are_read = async || if models.are_read() { Ok(()) } else { Err("not yet") };
    eventually("the models to be read", SOON, are_read).await?;
    let (sender, registration) = watch::channel(Registration::default());
    let injector = Injector::new(models, Images::of_version("registry.example/", "test"), registration);
    ensure!(!injector.is_ready(), "it has not read the webhook");
    sender.send_replace(Registration::Absent);
    ensure!(injector.is_ready(), "there is nothing more to read");
    Ok(())
}

/// Lets the account of the operator change this webhook, and no other.
pub(crate) async fn allow(cluster: &ControlPlane, namespace: &TestNamespace) -> anyhow::Result<()> {
    let name = namespace.name();
    let rules = injection_rules(name);
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules}))?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "cllm-operator", "namespace": name}],
    }))?;
    Api::<ClusterRole>::all(cluster.client()?).create(&PostParams::default(), &role).await?;
    Api::<ClusterRoleBinding>::all(cluster.client()?).create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// Applies what the chart makes, as Helm and others do.
pub(crate) async fn apply(cluster: &ControlPlane, name: &str, stage: &str) -> anyhow::Result<()> {
    let values = json!({"fullnameOverride": name, "commonLabels": {"stage": stage}});
    let manifest = of_chart(cluster, name, &values).await?.to_string();
    cluster.kubectl_with_input(&["apply", "--server-side", "--field-manager=helm", "-f", "-"], &manifest).await?;
    Ok(())
}

/// Sidecars alone, for the webhook, the Service and the namespace of that name.
pub(crate) fn https(name: &str, closing: Closing) -> HttpsSettings {
    let service = ServiceAddress {
        namespace: name.to_owned(),
        name: name.to_owned(),
        port: 8443,
        cluster_domain: "cluster.local".to_owned(),
    };
    let hour = Duration::from_secs(3600);
    let rules = Rules {
        names: service.host_names().into(),
        authority_lifetime: 10 * hour,
        serving_lifetime: hour,
        overlap: Duration::from_secs(5),
    };
    HttpsSettings {
        service,
        secret: SECRET.to_owned(),
        certificates: Source::Own(rules),
        adapter: Mode::False,
        injection_webhook: Some(name.to_owned()),
        owner: None,
        closing,
    }
}

/// What the operator writes: a key and the authorities to trust.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) key: Key,
    pub(crate) authorities: Vec<u8>,
}

/// Waits until both are there, and the key is not that one.
pub(crate) async fn written(
    webhooks: &Api<MutatingWebhookConfiguration>,
    name: &str,
    but: Option<&Key>,
) -> anyhow::Result<Written> {
    let both = |found: &MutatingWebhookConfiguration| {
        let Registration::Known(key) = registration(Some(found)) else { return None };
        let authorities = found.webhooks.as_ref()?.first()?.client_config.ca_bundle.clone()?.0;
        (Some(&key) != but).then_some(Written { key, authorities })
    };
    Ok(eventually_object(webhooks, name, "the webhook to have a key and authorities", SOON, both).await?)
}

#[tokio::test]
async fn the_leader_gives_the_webhook_a_key_and_its_authorities_and_no_upgrade_takes_them_away() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "key").await?;
    let (name, webhooks) = (namespace.name(), Api::<MutatingWebhookConfiguration>::all(cluster.client()?));
    let client = account(cluster, &namespace, [rules(), certificate_rules(SECRET)].concat()).await?;
    allow(cluster, &namespace).await?;
    apply(cluster, name, "first").await?;
    let closing = Closing { accepts_for: Duration::ZERO, ..Closing::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let operator = Operator::start_serving(client, &namespace, None, Some((https(name, closing), listener))).await?;
    let first = written(&webhooks, name, None).await?;
    let secret = namespace.api::<Secret>().get(SECRET).await?.data.unwrap_or_default();
    let stored = Stored::read(&secret)?.context("no certificates")?;
    ensure!(first.authorities == stored.bundle(), "other authorities than those of the Secret");

    apply(cluster, name, "second").await?;
    let upgraded = webhooks.get(name).await?;
    let stage = upgraded.metadata.labels.as_ref().and_then(|labels| labels.get("stage"));
    ensure!(stage.is_some_and(|stage| stage == "second"), "not upgraded: {upgraded:?}");
    ensure!(written(&webhooks, name, None).await? == first, "{upgraded:?}");

    // Each of the two is written again without the other.
    let forget = async |client_config: Value| {
        let patch = json!({"webhooks": [{"name": WEBHOOK, "clientConfig": client_config}]});
        webhooks.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await
    };
    forget(json!({"caBundle": null})).await?;
    ensure!(written(&webhooks, name, None).await? == first, "another key or other authorities");
    forget(json!({"service": {"path": null}})).await?;
    let second = written(&webhooks, name, Some(&first.key)).await?;
    ensure!(second.authorities == first.authorities, "other authorities");
    operator.stop().await
}
