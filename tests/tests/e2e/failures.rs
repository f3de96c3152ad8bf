//! What goes wrong is said on the resource: a reason, the Pod, and what to do. `Ready` is never true meanwhile.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::{TestNamespace, eventually_object, product::Product};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::scenario::{
    SOON, TRAINED_WITHIN, cluster, condition, create_model, create_training, is_true, model_is, model_is_ready,
    patch_model, team,
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
        let degraded = model_is(&namespace, &format!("{name}: to be degraded"), |status| {
            let degraded = condition(&status.conditions, "Degraded")?;
            (degraded.status == "True" && degraded.reason == reason).then(|| degraded.message.clone())
        })
        .await?;
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
    let failed = failed(&gate).await?;
    ensure!(failed.reason == "GateFailed" && failed.message.contains("minSpeedup"), "{failed:?}");
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
    let failed = self::failed(&unwritable).await?;
    ensure!(failed.message.contains("models/text2sql"), "{failed:?}");

    let data = team(&cluster, "data").await?;
    fs::write(
        cluster.folder_of_claim(data.name(), "text2sql").join("bad.jsonl"),
        "{\"prompt\": \"a\", \"completion\": \"b\"}\nno\n",
    )?;
    create_training(&data, json!({"dataset": {"uri": "pvc://text2sql/bad.jsonl"}, "backoffLimit": 0})).await?;
    let failed = self::failed(&data).await?;
    ensure!(failed.message.contains("bad.jsonl") && failed.message.contains('2'), "{failed:?}");
    Ok(())
}

async fn failed(namespace: &TestNamespace) -> anyhow::Result<Condition> {
    let trainings = namespace.api::<CllmTraining>();
    let failed =
        eventually_object(&trainings, "text2sql", "the training to fail", TRAINED_WITHIN, |training: &CllmTraining| {
            let conditions = &training.status.as_ref()?.conditions;
            condition(conditions, "Failed").filter(|failed| failed.status == "True").cloned()
        });
    Ok(failed.await?)
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_training_that_hangs_says_so_and_goes_on_when_it_can() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "hangs").await?;
    create_training(&namespace, json!({"dataset": {"uri": "pvc://late/train.jsonl.gz"}})).await?;
    let trainings = namespace.api::<CllmTraining>();
    let degraded =
        eventually_object(&trainings, "text2sql", "the training to be degraded", SOON, |training: &CllmTraining| {
            let conditions = &training.status.as_ref()?.conditions;
            condition(conditions, "Degraded").filter(|degraded| degraded.status == "True").cloned()
        })
        .await?;
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
