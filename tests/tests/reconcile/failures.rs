//! What goes wrong with Pods is on the status of the resource, in plain words.

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::{
    Operator, SOON, cluster, condition, create, hang_on_mount, model_resource, play_kubelet_until_ready, pod,
    training_resource, waiting,
};

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
    hang_on_mount(&namespace, &name).await?;
    let message = condition::<CllmTraining>(&namespace, "Degraded", "True", "MountFailed").await?;
    ensure!(message.starts_with(&format!("Pod {name}: A volume is not there: MountVolume.SetUp failed")), "{message}");
    let held_up = condition::<CllmTraining>(&namespace, "Ready", "False", "Running").await?;
    ensure!(held_up == format!("Collecting is held up: {message}"), "{held_up}");
    operator.stop().await
}

#[tokio::test]
async fn a_model_that_cannot_be_changed_for_now_is_not_ready_without_a_replica() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "webhook").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    play_kubelet_until_ready(&namespace).await?;

    let webhooks = Api::<MutatingWebhookConfiguration>::all(cluster.client()?);
    webhooks.create(&PostParams::default(), &unreachable_webhook(namespace.name())?).await?;
    let models = namespace.api::<CllmModel>();
    let (deployments, label) = (namespace.api::<Deployment>(), json!({"metadata": {"labels": {"any": "change"}}}));
    eventually("the webhook to be in the way", SOON, async || {
        let trial = PatchParams { dry_run: true, ..PatchParams::default() };
        let answer = deployments.patch("text2sql-model", &trial, &Patch::Merge(&label)).await;
        answer.map_or(Ok(()), |_| Err("changes are accepted"))
    })
    .await?;
    let other = json!({"spec": {"image": "registry.example/cllm-server:other"}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(other)).await?;
    let message = condition::<CllmModel>(&namespace, "Reconciling", "True", "ApiError").await?;
    ensure!(message.contains("failed to apply Deployment text2sql-model"), "{message}");
    condition::<CllmModel>(&namespace, "Ready", "False", "ApiError").await?;

    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let name = pod(&namespace).await?;
    namespace.api::<Pod>().patch_status(&name, &PatchParams::default(), &Patch::Merge(unready)).await?;
    let none = |model: &CllmModel| model.status.as_ref().filter(|status| status.ready_replicas == 0).map(|_| ());
    eventually_object(&models, "text2sql", "no replica to be counted", SOON, none).await?;

    webhooks.delete(namespace.name(), &DeleteParams::default()).await?;
    play_kubelet_until_ready(&namespace).await?;
    operator.stop().await
}

/// Nothing listens there.
fn unreachable_webhook(namespace: &str) -> serde_json::Result<MutatingWebhookConfiguration> {
    serde_json::from_value(json!({
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": "unreachable.cllm.dev",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}],
        }],
    }))
}
