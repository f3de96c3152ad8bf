//! A result that is refused is gone back from; replicas that somebody leaves out stay; a pause changes nothing.

use std::sync::atomic::AtomicUsize;

use anyhow::ensure;
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{
    Operator, SOON, cluster, create, exists, look_again, model_resource, play_kubelet_until_ready, rests,
    training_resource,
};

/// A training that has ended well with a result of that name.
async fn create_complete(namespace: &TestNamespace, name: &str, completed: &str) -> anyhow::Result<()> {
    let mut training = training_resource()?;
    training.metadata.name = Some(name.to_owned());
    training.metadata.labels = Some([("task".to_owned(), "sql".to_owned())].into());
    create(namespace, &training).await?;
    let complete = json!({
        "type": "Complete", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": completed,
    });
    let status = json!({"status": {
        "stage": "Succeeded", "completionTime": completed, "conditions": [complete],
        "output": {"uri": format!("pvc://models/text2sql/{name}"), "digest": format!("sha256:{name}"), "sizeBytes": 7},
    }});
    let api = namespace.api::<CllmTraining>();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

async fn serves(namespace: &TestNamespace, name: &str) -> anyhow::Result<()> {
    let deployments = namespace.api::<Deployment>();
    let wanted = format!("--model=/claims/models/text2sql/{name}");
    let arguments = |deployment: &Deployment| {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        pod.containers.first()?.args.as_ref()?.contains(&wanted).then_some(())
    };
    eventually_object(&deployments, "text2sql-model", &format!("{name} to be served"), SOON, arguments).await?;
    Ok(())
}

/// The server of that checkpoint refuses it, and the kubelet tells its last words.
async fn refuse(namespace: &TestNamespace, name: &str) -> anyhow::Result<()> {
    let pods = namespace.api::<Pod>();
    let digest = format!("sha256:{name}");
    let pod = eventually("a Pod with the new checkpoint", SOON, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let found = list.iter().find(|pod| pod.annotations().get("cllm.dev/model-digest") == Some(&digest));
        found.map(ResourceExt::name_any).ok_or_else(|| format!("{} Pods without it", list.items.len()))
    })
    .await?;
    let now = "2026-01-01T00:00:00Z";
    let message = "INFO listening\nerror: the model cannot be loaded: it has another digest.\n";
    let terminated = json!({"exitCode": 2, "reason": "Error", "message": message, "startedAt": now, "finishedAt": now});
    let status = json!({"status": {
        "phase": "Running",
        "containerStatuses": [{
            "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": terminated},
        }],
    }});
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

#[tokio::test]
async fn a_result_that_is_refused_is_gone_back_from_also_by_the_next_operator() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "promotion").await?;
    create_complete(&namespace, "first", "2026-01-01T00:00:01Z").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let source = json!({"trainingRef": {"selector": {"matchLabels": {"task": "sql"}}}});
    create(&namespace, &model_resource(&source)?).await?;
    serves(&namespace, "first").await?;
    play_kubelet_until_ready(&namespace).await?;
    operator.stop().await?;

    create_complete(&namespace, "second", "2026-01-01T00:00:02Z").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    serves(&namespace, "second").await?;
    refuse(&namespace, "second").await?;
    serves(&namespace, "first").await?;
    operator.stop().await?;

    let operator = Operator::start(cluster, &namespace).await?;
    let models = namespace.api::<CllmModel>();
    let message = eventually_object(&models, "text2sql", "the model to be degraded and ready", SOON, |model| {
        let status = model.status.as_ref()?;
        let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
        let degraded = condition("Degraded").filter(|degraded| degraded.status == "True")?;
        let is_known = status.model.as_ref()?.rejected_digest.as_deref() == Some("sha256:second");
        (is_known && condition("Ready")?.status == "True").then(|| degraded.message.clone())
    })
    .await?;
    ensure!(
        message.contains("A replica refuses sha256:second: the model cannot be loaded: it has another digest.")
            && message.contains("sha256:first is served instead"),
        "{message}"
    );
    rests(&operator, async |turn| {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        models.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
    })
    .await?;
    serves(&namespace, "first").await?;
    operator.stop().await
}

#[tokio::test]
async fn replicas_that_somebody_leaves_out_stay_with_an_autoscaler_and_a_pause_changes_nothing() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "held").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = model_resource(&json!({"uri": "pvc://models/text2sql"}))?;
    resource.spec.autoscaling =
        serde_json::from_value(json!({"minReplicas": 1, "maxReplicas": 8, "targetTokensPerSecond": 100}))?;
    create(&namespace, &resource).await?;
    exists::<HorizontalPodAutoscaler>(&namespace, "text2sql-model", None).await?;
    let (models, deployments) = (namespace.api::<CllmModel>(), namespace.api::<Deployment>());
    let scale = json!({"spec": {"replicas": 6}});
    models.patch_scale("text2sql", &PatchParams::default(), &Patch::Merge(scale)).await?;
    let has = |wanted: i32| {
        move |deployment: &Deployment| deployment.spec.as_ref()?.replicas.filter(|replicas| *replicas == wanted)
    };
    eventually_object(&deployments, "text2sql-model", "six replicas", SOON, has(6)).await?;
    // As the autoscaler tells it: without metrics it has no word of its own.
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    let told = json!({"status": {"desiredReplicas": 6, "currentReplicas": 6}});
    autoscalers.patch_status("text2sql-model", &PatchParams::default(), &Patch::Merge(told)).await?;

    let left_out = json!({"spec": {"replicas": null}});
    let written = models.patch("text2sql", &PatchParams::default(), &Patch::Merge(left_out)).await?;
    ensure!(written.spec.replicas == 1, "{}", written.spec.replicas);
    let turn = AtomicUsize::new(0);
    for _ in 0..3 {
        let looked = look_again(
            &operator,
            async |turn| {
                let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
                models.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
            },
            &turn,
        );
        looked.await.map_err(anyhow::Error::msg)?;
        let now = deployments.get("text2sql-model").await?.spec.and_then(|spec| spec.replicas);
        ensure!(now == Some(6), "{now:?}");
    }

    let paused = json!({"spec": {"paused": true, "autoscaling": null, "replicas": 2}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(paused)).await?;
    eventually_object(&models, "text2sql", "the model to be paused", SOON, |model| {
        let conditions = &model.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == "Reconciling" && condition.reason == "Paused").map(|_| ())
    })
    .await?;
    ensure!(deployments.get("text2sql-model").await?.spec.and_then(|spec| spec.replicas) == Some(6));
    let goes_on = json!({"spec": {"paused": false}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(goes_on)).await?;
    eventually_object(&deployments, "text2sql-model", "two replicas", SOON, has(2)).await?;
    operator.stop().await
}
