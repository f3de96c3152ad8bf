//! The webhook for sidecars, registered with the API server as the chart registers it: what becomes of Pods.

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cllm_operator::Images;
use cllm_operator::injection::{Injector, Key, Models, Registration, router};
use cllm_tests::product::{RELEASE, chart, yaml_of_page};
use cllm_tests::sources::serve_encrypted;
use cllm_tests::{ControlPlane, TestNamespace, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{SOON, cluster, create, model_resource};

/// What the chart registers, for a release in that namespace.
pub(crate) async fn of_chart(cluster: &ControlPlane, namespace: &str, values: &Value) -> anyhow::Result<Value> {
    let arguments =
        ["template", RELEASE, &chart(), "-n", namespace, "--show-only", "templates/injection.yaml", "-f", "-"];
    let manifest = cluster.helm_with_input(&arguments, &values.to_string()).await?.stdout;
    serde_saphyr::from_multiple(&manifest)?.into_iter().next().context("no webhook")
}

/// A webhook in this process that the API server asks about Pods in these namespaces, if the chart's selectors let it.
async fn register(cluster: &ControlPlane, namespaces: &[&TestNamespace]) -> anyhow::Result<()> {
    let (models, reads) = Models::follow(Api::all(cluster.client()?));
    tokio::spawn(reads);
    let key = Key::random();
    let (_, registration) = watch::channel(Registration::Known(key.clone()));
    let injector = Injector::new(models, Images::of_version("registry.example/", "test"), registration);
    eventually("the models to be read", SOON, async || if injector.is_ready() { Ok(()) } else { Err("not yet") })
        .await?;
    let (address, certificate) = serve_encrypted(router(injector)).await;
    let mut configuration = of_chart(cluster, "cllm-system", &json!({})).await?;
    let names: Vec<_> = namespaces.iter().map(|namespace| namespace.name()).collect();
    configuration["metadata"]["name"] = json!(names[0]);
    let webhook = &mut configuration["webhooks"][0];
    let url = format!("https://{address}{}", key.path());
    webhook["clientConfig"] = json!({"url": url, "caBundle": STANDARD.encode(certificate)});
    let ours = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names});
    webhook["namespaceSelector"]["matchExpressions"].as_array_mut().context("no selector")?.push(ours);
    cluster.kubectl_with_input(&["create", "-f", "-"], &configuration.to_string()).await?;
    Ok(())
}

/// A Pod that meets "restricted", with these labels.
pub(crate) fn pod(name: &str, labels: &Value) -> anyhow::Result<Pod> {
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "containers": [{"name": "app", "image": "app:1", "securityContext": security}],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }))?)
}

fn asking() -> Value {
    json!({"cllm.dev/inject": "text2sql"})
}

/// The sidecar of a Pod.
fn sidecar(pod: &Pod) -> Option<Value> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    containers.iter().find(|container| container.name == "cllm-server").map(|container| json!(container))
}

/// The API server has taken up the webhook when a trial shows it.
async fn is_registered(namespace: &TestNamespace) -> anyhow::Result<()> {
    let (pods, trial) = (namespace.api::<Pod>(), PostParams { dry_run: true, ..PostParams::default() });
    let pod = pod("trial", &asking())?;
    eventually("a sidecar", SOON, async || match pods.create(&trial, &pod).await {
        Ok(made) => sidecar(&made).map(|_| ()).ok_or_else(|| format!("{:#}", json!(made))),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    ensure!(pods.get_opt("trial").await?.is_none(), "a dry run made a Pod");
    Ok(())
}

#[tokio::test]
async fn who_asks_gets_a_sidecar_once_and_nobody_else_is_touched() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "injected").await?;
    let other = TestNamespace::create_restricted(cluster, "not-injected").await?;
    for namespace in [&namespace, &other] {
        create(namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    }
    namespace.label("cllm.dev/injection", "enabled").await?;
    register(cluster, &[&namespace, &other]).await?;
    is_registered(&namespace).await?;

    let pods = namespace.api::<Pod>();
    let first = pods.create(&PostParams::default(), &pod("first", &asking())?).await?;
    let server = sidecar(&first).context("no sidecar")?;
    ensure!(server["image"] == "registry.example/cllm-server:test", "{server:#}");
    let mounts = server["volumeMounts"].as_array().context("no mounts")?;
    let at_token = |mount: &&Value| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount";
    let tokens: Vec<_> = mounts.iter().filter(at_token).map(|mount| mount["name"].clone()).collect();
    ensure!(tokens == ["cllm-no-credentials"], "it has the token of the Pod's account: {tokens:?}");

    // As somebody who applies what `kubectl get -o yaml` printed.
    let mut second = pod("second", &asking())?;
    second.metadata.annotations = first.metadata.annotations.clone();
    second.spec = first.spec.clone();
    let second = pods.create(&PostParams::default(), &second).await?;
    ensure!(json!(second.spec) == json!(first.spec), "changed again: {:#}", json!(second.spec));

    let unlabelled = pods.create(&PostParams::default(), &pod("unlabelled", &json!({"app": "shop"}))?).await?;
    let elsewhere = other.api::<Pod>().create(&PostParams::default(), &pod("elsewhere", &asking())?).await?;
    for untouched in [&unlabelled, &elsewhere] {
        let is_untouched = sidecar(untouched).is_none() && untouched.annotations().is_empty();
        ensure!(is_untouched, "{:#}", json!(untouched));
    }
    Ok(())
}

#[tokio::test]
async fn what_stands_in_the_way_stands_on_the_pod_and_it_is_made_all_the_same() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "refused").await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    namespace.label("cllm.dev/injection", "enabled").await?;
    register(cluster, &[&namespace]).await?;
    is_registered(&namespace).await?;
    let mut busy = pod("busy", &asking())?;
    let ports = serde_json::from_value(json!([{"containerPort": 8000}]))?;
    busy.spec.as_mut().context("no spec")?.containers[0].ports = Some(ports);
    for (pod, words) in [
        (busy, "container app has port 8000"),
        (pod("unknown", &json!({"cllm.dev/inject": "other"}))?, "has no CllmModel other"),
    ] {
        let made = namespace.api::<Pod>().create(&PostParams::default(), &pod).await?;
        let refusal = made.annotations().get("cllm.dev/injection-refused").context("no annotation")?;
        ensure!(refusal.contains(words) && sidecar(&made).is_none(), "{refusal}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_page_shows_gets_its_sidecars() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "page").await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    namespace.label("cllm.dev/injection", "enabled").await?;
    register(cluster, &[&namespace]).await?;
    is_registered(&namespace).await?;
    let page = yaml_of_page("sidecar.md")?;
    ensure!(page.contains(concat!("image: cllm:", env!("CARGO_PKG_VERSION"))), "the page names another version");
    let apply = ["apply", "--server-side", "--warnings-as-errors", "-n", namespace.name(), "-f", "-"];
    cluster.kubectl_with_input(&apply, &page).await?;
    let pods = namespace.api::<Pod>();
    for selector in ["app=shop", "batch.kubernetes.io/job-name=question"] {
        eventually(&format!("a Pod {selector} with a sidecar"), SOON, async || {
            let list = pods.list(&ListParams::default().labels(selector)).await.map_err(|error| error.to_string())?;
            let [pod] = list.items.as_slice() else { return Err(format!("{} Pods", list.items.len())) };
            sidecar(pod).map(|_| ()).ok_or_else(|| format!("{:#}", json!(pod)))
        })
        .await?;
    }
    Ok(())
}
