//! What goes wrong is said on the resource: a reason, the Pod, and what to do. `Ready` is never true meanwhile.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::product::Product;
use serde_json::{Value, json};

use crate::scenario::{
    cluster, condition, create_model, create_training, degraded, failed, is_true, model_is, model_is_ready,
    patch_model, team, training_is_degraded,
};

/// What is wrong with a model's spec, the reason that is expected, and a word of the message.
fn broken_models() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    vec![
        ("image", json!({"image": "cllm-server:absent"}), "ImagePullFailed", "cllm-server:absent"),
        ("placement", json!({"nodeSelector": {"no": "node"}}), "Unschedulable", "text2sql-model-"),
        ("memory", json!({"resources": {"limits": {"memory": "8Mi"}}}), "OutOfMemory", "memory"),
        ("weights", json!({"model": {"uri": "pvc://text2sql/nothing"}}), "ContainerFailed", "nothing"),
        ("claim", json!({"model": {"uri": "pvc://absent/target"}}), "Unschedulable", "absent"),
    ]
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_model_says_what_is_wrong_and_serves_when_it_is_corrected() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    for (name, change, reason, word) in broken_models() {
        let namespace = team(&cluster, name).await?;
        create_model(&namespace, change.clone()).await?;
        let degraded = degraded(&namespace, "text2sql", reason).await.context(name)?;
        ensure!(degraded.contains(word), "{name}: {degraded}");
        ensure!(degraded.contains("text2sql-model-"), "{name}: no Pod is named: {degraded}");
        model_is(&namespace, &format!("{name}: not to be ready"), |status| {
            (!is_true(&status.conditions, "Ready")).then_some(())
        })
        .await?;
        patch_model(&namespace, undone(&change)).await?;
        model_is_ready(&namespace).await.with_context(|| name.to_owned())?;
        model_is(&namespace, &format!("{name}: no longer to be degraded"), |status| {
            (!is_true(&status.conditions, "Degraded")).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// The merge patch that takes a change back.
fn undone(change: &Value) -> Value {
    let taken_back = |(name, _): (&String, &Value)| match name.as_str() {
        "model" => (name.clone(), json!({"uri": "pvc://text2sql/target"})),
        _ => (name.clone(), Value::Null),
    };
    Value::Object(change.as_object().into_iter().flatten().map(taken_back).collect())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_training_says_why_it_failed_and_its_result_is_never_served() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;

    let gate = team(&cluster, "gate").await?;
    create_model(&gate, json!({"model": {"uri": null, "trainingRef": {"name": "text2sql"}}})).await?;
    create_training(&gate, json!({"evaluation": {"minSpeedup": "100"}})).await?;
    let why = failed(&gate).await?;
    ensure!(why.reason == "GateFailed" && why.message.contains("minSpeedup"), "{why:?}");
    let training = gate.api::<CllmTraining>().get("text2sql").await?;
    ensure!(training.status.and_then(|status| status.output).is_some(), "the output is not kept");
    model_is(&gate, "the model not to follow", |status| {
        let ready = condition(&status.conditions, "Ready")?;
        (ready.status == "False" && ready.reason == "TrainingFailed").then_some(())
    })
    .await?;

    let unwritable = team(&cluster, "unwritable").await?;
    fs::set_permissions(cluster.folder_of_claim(unwritable.name(), "models"), fs::Permissions::from_mode(0o555))?;
    create_training(&unwritable, json!({"backoffLimit": 0})).await?;
    let why = failed(&unwritable).await?;
    ensure!(why.message.contains("models/text2sql"), "{why:?}");

    let data = team(&cluster, "data").await?;
    fs::write(
        cluster.folder_of_claim(data.name(), "text2sql").join("bad.jsonl"),
        "{\"prompt\": \"a\", \"completion\": \"b\"}\nno\n",
    )?;
    create_training(&data, json!({"dataset": {"uri": "pvc://text2sql/bad.jsonl"}, "backoffLimit": 0})).await?;
    let why = failed(&data).await?;
    ensure!(why.message.contains("bad.jsonl") && why.message.contains('2'), "{why:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_training_that_hangs_says_so_and_goes_on_when_it_can() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "hangs").await?;
    create_training(&namespace, json!({"dataset": {"uri": "pvc://late/train.jsonl.gz"}})).await?;
    let degraded = training_is_degraded(&namespace).await?;
    ensure!(degraded.message.contains("late") && degraded.message.contains("text2sql-collect-"), "{degraded:?}");
    let folder = cllm_tests::product::claim(&cluster, &namespace, "late").await?;
    fs::copy(
        cluster.folder_of_claim(namespace.name(), "text2sql").join("data/train.jsonl.gz"),
        folder.join("train.jsonl.gz"),
    )?;
    crate::scenario::completed(&namespace).await?;
    Ok(())
}

/// `Ready` belongs to the spec that is there, not to an earlier one.
#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_broken_roll_out_leaves_the_old_replicas_serving() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "broken").await?;
    create_model(&namespace, json!({"rollout": {"strategy": "Surge"}})).await?;
    model_is_ready(&namespace).await?;
    patch_model(&namespace, json!({"image": "cllm-server:absent"})).await?;
    model_is(&namespace, "to be degraded", |status| is_true(&status.conditions, "Degraded").then_some(())).await?;
    let model = namespace.api::<CllmModel>().get("text2sql").await?;
    ensure!(model.status.is_some_and(|status| status.ready_replicas == 1), "the old replica is gone");
    patch_model(&namespace, json!({"image": null})).await?;
    model_is_ready(&namespace).await
}

/// A Pod without enough memory is tried again, as a Job does; then the training ends with what to change.
#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_training_without_enough_memory_says_so_while_it_is_tried_again_and_at_the_end() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let little = json!({"limits": {"memory": "20Mi"}});
    for (name, change, pod, field) in [
        ("stage", json!({"training": {"resources": little}, "backoffLimit": 1}), "text2sql-train-", "spec.training"),
        ("spec", json!({"resources": little, "backoffLimit": 1}), "text2sql-collect-", "spec.trajectories"),
    ] {
        let namespace = team(&cluster, name).await?;
        create_training(&namespace, change).await?;
        let held_up = training_is_degraded(&namespace).await.context(name)?;
        let why = failed(&namespace).await.context(name)?;
        for said in [&held_up, &why] {
            ensure!(said.reason == "OutOfMemory", "{name}: {said:?}");
            ensure!(
                [pod, "20Mi", field, "another name"].iter().all(|word| said.message.contains(word)),
                "{name}: {said:?}"
            );
        }
        let training = namespace.api::<CllmTraining>().get("text2sql").await?;
        let status = training.status.unwrap_or_default();
        ensure!(!is_true(&status.conditions, "Ready"), "{name}: {status:#?}");
        ensure!(status.jobs.iter().any(|job| job.failed == 2), "{name}: it was not tried again: {:?}", status.jobs);
    }
    Ok(())
}
