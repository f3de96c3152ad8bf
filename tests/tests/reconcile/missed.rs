//! Pods that asked for a sidecar when nobody was there to give one: each is told of, once.

use anyhow::ensure;
use cllm_tests::{TestNamespace, eventually};
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::injection::pod;
use crate::support::{Operator, SOON, cluster, create, model_resource};

/// What was told of an object.
async fn notes(namespace: &TestNamespace, kind: &str, name: &str) -> Result<Vec<String>, String> {
    let events = namespace.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    let is_it = |object: &ObjectReference| object.kind.as_deref() == Some(kind) && object.name.as_deref() == Some(name);
    let ours = events.iter().filter(|event| event.reason.as_deref() == Some("SidecarMissing"));
    let about_it = ours.filter(|event| event.regarding.as_ref().is_some_and(is_it));
    Ok(about_it.filter_map(|event| event.note.clone()).collect())
}

/// Makes a Pod that nobody gives a sidecar, and waits until it is told of. Pods are looked at one after the other.
async fn miss(namespace: &TestNamespace, name: &str) -> anyhow::Result<String> {
    let pod = pod(name, &json!({"cllm.dev/inject": "text2sql"}))?;
    namespace.api::<Pod>().create(&PostParams::default(), &pod).await?;
    told(namespace, name).await
}

async fn told(namespace: &TestNamespace, name: &str) -> anyhow::Result<String> {
    let what = format!("Pod {name} to be told of");
    let first = eventually(&what, SOON, async || {
        notes(namespace, "Pod", name).await?.into_iter().next().ok_or_else(|| "nothing".to_owned())
    });
    Ok(first.await?)
}

#[tokio::test]
async fn pods_that_were_made_without_an_operator_are_told_of_once_with_what_to_do() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "missed").await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    let pods = namespace.api::<Pod>();
    let asking = json!({"cllm.dev/inject": "text2sql"});
    let mut complete = pod("complete", &asking)?;
    if let Some(spec) = &mut complete.spec {
        let sidecar = Container {
            name: "cllm-server".to_owned(),
            restart_policy: Some("Always".to_owned()),
            ..spec.containers[0].clone()
        };
        spec.init_containers = Some(vec![sidecar]);
    }
    for pod in [complete, pod("first", &asking)?, pod("unlabelled", &json!({}))?] {
        pods.create(&PostParams::default(), &pod).await?;
    }

    let operator = Operator::start(cluster, &namespace).await?;
    let note = told(&namespace, "first").await?;
    let advice = format!("kubectl label namespace {} cllm.dev/injection=enabled", namespace.name());
    ensure!(note.contains(&advice) && note.contains("delete the Pod"), "{note}");
    let of_model = notes(&namespace, "CllmModel", "text2sql").await.map_err(anyhow::Error::msg)?;
    ensure!(of_model.iter().any(|note| note.contains("first")), "{of_model:?}");
    for turn in 0..3 {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        pods.patch("first", &PatchParams::default(), &Patch::Merge(poke)).await?;
    }
    miss(&namespace, "second").await?;
    operator.stop().await?;

    // Another one remembers nothing.
    let operator = Operator::start(cluster, &namespace).await?;
    miss(&namespace, "third").await?;
    for (name, count) in [("first", 1), ("second", 1), ("complete", 0), ("unlabelled", 0)] {
        let notes = notes(&namespace, "Pod", name).await.map_err(anyhow::Error::msg)?;
        ensure!(notes.len() == count, "{name}: {notes:?}");
    }
    operator.stop().await
}
