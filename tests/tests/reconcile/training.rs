//! A `CllmTraining` from its creation to its end.

use anyhow::{Context, ensure};
use cllm_crds::{CllmTraining, TrainingStage};
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{
    Operator, SOON, cluster, create, evaluated, exists, finish_pods, model_resource, rests, training_resource,
};

#[tokio::test]
async fn a_training_runs_to_its_end_and_its_result_is_served() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "training").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"trainingRef": {"name": "text2sql"}}))?).await?;
    create(&namespace, &training_resource()?).await?;
    exists::<PersistentVolumeClaim>(&namespace, "text2sql-training-workspace", None).await?;
    let policy = exists::<NetworkPolicy>(&namespace, "text2sql-training", None).await?;
    namespace.api::<NetworkPolicy>().delete("text2sql-training", &DeleteParams::default()).await?;
    exists::<NetworkPolicy>(&namespace, "text2sql-training", Some(&policy)).await?;

    let shard = json!({"stage": "Collecting", "trajectories": {
        "examples": 5, "blocks": 10, "states": 50, "tokens": 100, "dropped": 0, "tokensPerForward": "1.0",
    }});
    let result = evaluated();
    for (stage, pods, words) in
        [("collect", 2, &shard), ("train", 1, &json!({"stage": "Training"})), ("evaluate", 1, &result)]
    {
        finish_pods(&namespace, stage, pods, words).await.with_context(|| stage.to_owned())?;
    }

    let trainings = namespace.api::<CllmTraining>();
    let status = eventually_object(&trainings, "text2sql", "the training to succeed", SOON, |training| {
        training.status.clone().filter(|status| status.stage == Some(TrainingStage::Succeeded))
    })
    .await?;
    ensure!(status.trajectories.context("no trajectories")?.examples == 10);
    ensure!(status.speedup.context("no speed-up")?.over_target == "2.10");
    ensure!(status.jobs.iter().map(|job| job.succeeded).collect::<Vec<_>>() == [2, 1, 1], "{:?}", status.jobs);
    ensure!(status.image.as_deref() == Some("registry.example/cllm-trainer:test"));
    eventually_object(
        &namespace.api::<Deployment>(),
        "text2sql-model",
        "the result to be served",
        SOON,
        |deployment| {
            let template = &deployment.spec.as_ref()?.template;
            let arguments = template.spec.as_ref()?.containers.first()?.args.as_ref()?;
            arguments.contains(&"--model=/claims/models/text2sql/abc".to_owned()).then_some(())
        },
    )
    .await?;

    // Terminal trainings stay terminal.
    for job in namespace.api::<Job>().list(&ListParams::default()).await? {
        namespace.api::<Job>().delete(&job.name_any(), &DeleteParams::background()).await?;
    }
    rests(&operator, async |turn| {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        trainings.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
    })
    .await?;
    let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
    ensure!(jobs.iter().all(|job| job.metadata.deletion_timestamp.is_some()), "{jobs:?}");
    operator.stop().await
}

#[tokio::test]
async fn a_failed_pod_ends_the_training_with_its_words_and_a_suspended_one_waits() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "failure").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = training_resource()?;
    resource.spec.suspend = true;
    resource.spec.backoff_limit = 0;
    resource.spec.trajectories.shards = 1;
    create(&namespace, &resource).await?;
    let trainings = namespace.api::<CllmTraining>();
    eventually_object(&trainings, "text2sql", "the training to be suspended", SOON, |training| {
        let conditions = &training.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == "Suspended" && condition.status == "True").map(|_| ())
    })
    .await?;
    ensure!(namespace.api::<Job>().list(&ListParams::default()).await?.items.is_empty());
    let resume = json!({"spec": {"suspend": false}});
    trainings.patch("text2sql", &PatchParams::default(), &Patch::Merge(resume)).await?;

    let pods = namespace.api::<Pod>();
    let name = eventually("a Pod", SOON, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        list.iter().next().map(ResourceExt::name_any).ok_or("none").map_err(str::to_owned)
    })
    .await?;
    let words = json!({"stage": "Collecting", "error": "line 3 of /claims/data/train.jsonl is not JSON: correct it"})
        .to_string();
    let now = "2026-01-01T00:00:00Z";
    let terminated = json!({"exitCode": 2, "reason": "Error", "message": words, "startedAt": now, "finishedAt": now});
    let failed = json!({"status": {
        "phase": "Failed",
        "containerStatuses": [{
            "name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated},
        }],
    }});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&failed)).await?;
    let message = eventually_object(&trainings, "text2sql", "the training to fail", SOON, |training| {
        let conditions = &training.status.as_ref()?.conditions;
        conditions
            .iter()
            .find(|condition| condition.type_ == "Failed" && condition.status == "True")
            .map(|failed| failed.message.clone())
    })
    .await?;
    let words = "Line 3 of /claims/data/train.jsonl is not JSON: correct it (exit code 2).";
    ensure!(message == format!("Collecting failed: Pod {name}, container trainer: {words}"), "{message}");
    operator.stop().await
}
