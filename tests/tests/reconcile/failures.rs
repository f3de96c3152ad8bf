//! What goes wrong with Pods is on the status of the resource, in plain words.

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::{TestNamespace, eventually};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{
    Operator, SOON, cluster, condition, create, model_resource, play_kubelet_until_ready, training_resource,
};

/// The first Pod, once there is one.
async fn pod(namespace: &TestNamespace) -> anyhow::Result<String> {
    let pods = namespace.api::<Pod>();
    let found = eventually("a Pod", SOON, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        list.iter().next().map(ResourceExt::name_any).ok_or_else(|| "none".to_owned())
    });
    Ok(found.await?)
}

fn waiting(container: &str, reason: &str, message: &str) -> Value {
    json!({"status": {"phase": "Pending", "containerStatuses": [{
        "name": container, "image": "registry.example/cllm-server:test", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]}})
}

#[tokio::test]
async fn a_model_whose_image_is_missing_says_so_and_recovers() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "degraded").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    let name = pod(&namespace).await?;
    let pods = namespace.api::<Pod>();
    let status = waiting("server", "ErrImagePull", "manifest unknown");
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let message = condition::<CllmModel>(&namespace, "Degraded", "True", "ImagePullFailed").await?;
    let expected = format!(
        "Pod {name}, container server: Image registry.example/cllm-server:test cannot be pulled: manifest unknown. Correct spec.image"
    );
    ensure!(message.starts_with(&expected), "{message}");
    condition::<CllmModel>(&namespace, "Ready", "False", "ReplicasNotReady").await?;

    pods.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    play_kubelet_until_ready(&namespace).await?;
    condition::<CllmModel>(&namespace, "Degraded", "False", "AsDeclared").await?;
    let status = namespace.api::<CllmModel>().get("text2sql").await?.status.context("no status")?;
    ensure!(status.last_failure.and_then(|failure| failure.pod) == Some(name), "the failure is forgotten");
    operator.stop().await
}

#[tokio::test]
async fn a_quota_that_refuses_the_pods_is_named_on_both_kinds() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "quota").await?;
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}))?;
    create(&namespace, &quota).await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    create(&namespace, &training_resource()?).await?;
    let message = condition::<CllmModel>(&namespace, "Degraded", "True", "PodsRefused").await?;
    ensure!(message.contains("exceeded quota: none") && message.contains("Raise the ResourceQuota"), "{message}");
    // A Job says it only in an Event, which is looked for after a while.
    let message = condition::<CllmTraining>(&namespace, "Degraded", "True", "PodsRefused").await?;
    ensure!(message.contains("exceeded quota: none"), "{message}");
    operator.stop().await
}

#[tokio::test]
async fn a_volume_that_cannot_be_mounted_is_found_in_the_events() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "mount").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &training_resource()?).await?;
    let name = pod(&namespace).await?;
    let pods = namespace.api::<Pod>();
    let node = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}});
    let request = http::Request::post(format!("/api/v1/namespaces/{}/pods/{name}/binding", namespace.name()));
    namespace.client().request_text(request.body(node.to_string().into_bytes())?).await?;
    let mut status = waiting("trainer", "ContainerCreating", "");
    status["status"]["conditions"] =
        json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let pod = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "mount-", "namespace": namespace.name()},
        "type": "Warning", "reason": "FailedMount", "message": "MountVolume.SetUp failed for volume \"x\" : timed out",
        "involvedObject": {"kind": "Pod", "namespace": namespace.name(), "name": name, "uid": pod.uid()},
        "firstTimestamp": "2026-01-01T00:00:10Z", "lastTimestamp": "2026-01-01T00:00:10Z",
    });
    let event: k8s_openapi::api::core::v1::Event = serde_json::from_value(event)?;
    create(&namespace, &event).await?;
    let message = condition::<CllmTraining>(&namespace, "Degraded", "True", "MountFailed").await?;
    ensure!(message.starts_with(&format!("Pod {name}: A volume is not there: MountVolume.SetUp failed")), "{message}");
    let held_up = condition::<CllmTraining>(&namespace, "Ready", "False", "Running").await?;
    ensure!(held_up == format!("Collecting is held up: {message}"), "{held_up}");
    operator.stop().await
}
