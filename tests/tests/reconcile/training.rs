//! A `CllmTraining` from its creation to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use cllm_crds::{CllmTraining, CllmTrainingStatus, TrainingStage};
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{
    Operator, SOON, before_each_request, cluster, condition, create, evaluated, exists, finish_pods, model_resource,
    rests, training_resource,
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

    let trainings = namespace.api::<CllmTraining>();
    let poke = async |turn: u64| {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        trainings.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
    };
    // Its Pods are waited for.
    rests(&operator, poke).await?;

    let shard = json!({"stage": "Collecting", "trajectories": {
        "examples": 5, "blocks": 10, "states": 50, "tokens": 100, "dropped": 0, "tokensPerForward": "1.0",
    }});
    let result = evaluated();
    for (stage, pods, words) in
        [("collect", 2, &shard), ("train", 1, &json!({"stage": "Training"})), ("evaluate", 1, &result)]
    {
        finish_pods(&namespace, stage, pods, words).await.with_context(|| stage.to_owned())?;
    }

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
    rests(&operator, poke).await?;
    let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
    ensure!(jobs.iter().all(|job| job.metadata.deletion_timestamp.is_some()), "{jobs:?}");
    operator.stop().await
}

#[tokio::test]
async fn processes_that_train_together_have_names_and_are_one_stage() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "workers").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = training_resource()?;
    resource.spec.trajectories.shards = 1;
    resource.spec.training.workers = 3;
    resource.spec.ttl_seconds_after_finished = Some(0);
    create(&namespace, &resource).await?;
    condition::<CllmTraining>(&namespace, "StorageShared", "False", "OneNodeOnly").await?;
    let services = namespace.api::<Service>();
    let service = "text2sql-training-workers";
    exists::<Service>(&namespace, service, None).await?;
    finish_pods(&namespace, "collect", 1, &json!({"stage": "Collecting"})).await?;

    let pods = namespace.api::<Pod>();
    let selector = ListParams::default().labels("cllm.dev/stage=train");
    let hosts = eventually("three Pods", SOON, async || {
        let list = pods.list(&selector).await.map_err(|error| error.to_string())?;
        let specs: Vec<_> = list.items.into_iter().filter_map(|pod| pod.spec).collect();
        if specs.len() == 3 { Ok(specs) } else { Err(specs.len().to_string()) }
    })
    .await?;
    ensure!(hosts.iter().all(|pod| pod.subdomain.as_deref() == Some(service)), "{hosts:?}");
    let first = hosts.iter().filter_map(|pod| pod.hostname.clone()).find(|host| host.ends_with("-0"));
    let coordinator = format!("--coordinator={}.{service}.{}.svc:7000", first.context("no first")?, namespace.name());
    let is_told = |arguments: &Vec<String>| arguments.contains(&coordinator);
    ensure!(hosts.iter().all(|pod| pod.containers[0].args.as_ref().is_some_and(is_told)), "{coordinator} {hosts:?}");

    finish_pods(&namespace, "train", 3, &json!({"stage": "Training"})).await?;
    finish_pods(&namespace, "evaluate", 1, &evaluated()).await?;
    condition::<CllmTraining>(&namespace, "Complete", "True", "Succeeded").await?;
    let jobs = trainings_status(&namespace).await?.jobs;
    ensure!(jobs.iter().map(|job| job.succeeded).collect::<Vec<_>>() == [1, 3, 1], "{jobs:?}");
    eventually("the Service to go with the Jobs", SOON, async || match services.get_opt(service).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
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

/// The writes of a training's first reconciliations: image, claim, policy, Job, stage, and the Event of its start.
const FIRST_WRITES: usize = 6;

#[tokio::test]
async fn an_operator_killed_before_any_of_its_writes_leaves_a_training_that_goes_on() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    for survived in 0..FIRST_WRITES {
        let namespace = TestNamespace::create(cluster, "killed").await?;
        let (writes, hangs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, has_hung) = (writes.clone(), hangs.clone());
        let client = before_each_request(cluster.client()?, move |request| {
            let is_last = request.method != http::Method::GET && count.fetch_add(1, Ordering::SeqCst) >= survived;
            has_hung.fetch_or(is_last, Ordering::SeqCst);
            async move {
                if is_last {
                    std::future::pending::<()>().await;
                }
            }
        });
        let operator = Operator::start_with(client, &namespace, None).await?;
        let mut resource = training_resource()?;
        resource.spec.trajectories.shards = 1;
        create(&namespace, &resource).await?;
        eventually(
            "the fatal write",
            SOON,
            async || if hangs.load(Ordering::SeqCst) { Ok(()) } else { Err("not yet") },
        )
        .await?;
        operator.kill().await;

        let operator = Operator::start(cluster, &namespace).await?;
        for (stage, words) in [("collect", json!({"stage": "Collecting"})), ("train", json!({"stage": "Training"}))] {
            finish_pods(&namespace, stage, 1, &words).await.with_context(|| format!("{survived} {stage}"))?;
        }
        finish_pods(&namespace, "evaluate", 1, &evaluated()).await?;
        condition::<CllmTraining>(&namespace, "Complete", "True", "Succeeded").await?;
        let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
        ensure!(jobs.items.len() == 3, "{survived}: {} Jobs", jobs.items.len());
        let status = trainings_status(&namespace).await?;
        ensure!(status.jobs.len() == 3 && status.start_time.is_some(), "{survived}: {status:?}");
        operator.stop().await?;
    }
    Ok(())
}

async fn trainings_status(namespace: &TestNamespace) -> anyhow::Result<CllmTrainingStatus> {
    namespace.api::<CllmTraining>().get("text2sql").await?.status.context("no status")
}

#[tokio::test]
async fn a_summary_that_nobody_read_is_read_again_by_a_job() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "report").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = training_resource()?;
    resource.spec.trajectories.shards = 1;
    create(&namespace, &resource).await?;
    finish_pods(&namespace, "collect", 1, &json!({"stage": "Collecting"})).await?;
    finish_pods(&namespace, "train", 1, &json!({"stage": "Training"})).await?;
    let pods = namespace.api::<Pod>();
    let selector = ListParams::default().labels("cllm.dev/stage=evaluate");
    let name = eventually("the Pod that measures", SOON, async || {
        let list = pods.list(&selector).await.map_err(|error| error.to_string())?;
        list.iter().next().map(ResourceExt::name_any).ok_or_else(|| "none".to_owned())
    })
    .await?;
    operator.kill().await;
    finish_pods(&namespace, "evaluate", 1, &evaluated()).await?;
    let jobs = namespace.api::<Job>();
    eventually("the Job to be complete", SOON, async || {
        let list = jobs.list(&selector).await.map_err(|error| error.to_string())?;
        let is_complete =
            list.iter().any(|job| job.status.as_ref().is_some_and(|status| status.completion_time.is_some()));
        if is_complete { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await?;
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    eventually("the Pod to be gone", SOON, async || match pods.get_opt(&name).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;

    let operator = Operator::start(cluster, &namespace).await?;
    finish_pods(&namespace, "report", 1, &evaluated()).await?;
    condition::<CllmTraining>(&namespace, "Complete", "True", "Succeeded").await?;
    ensure!(trainings_status(&namespace).await?.output.is_some_and(|output| output.digest == "sha256:abc"));
    ensure!(jobs.list(&selector).await?.items.len() == 1, "it was measured twice");
    operator.stop().await
}
