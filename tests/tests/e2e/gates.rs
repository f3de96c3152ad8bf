//! Speed-up gates of served models, measured by real replicas.

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmModelStatus};
use cllm_tests::{TestNamespace, product::Product};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::scenario::{
    SOON, cluster, condition, degraded, is_true, model, named_model_is, named_model_is_ready, replicas, team,
    write_keys,
};

const PROMPTS: &str = "How many customers are there?
{\"prompt\": \"Who are the top 7 spenders between 2024-04-01 and 2025-01-01, with amounts?\\n\"}
{\"prompt\": \"On which date was the earliest returned order from Ireland?\\n\"}
";

async fn create(namespace: &TestNamespace, name: &str, gates: Value) -> anyhow::Result<()> {
    let mut model = model(json!({"gates": gates}))?;
    model.metadata.name = Some(name.to_owned());
    namespace.api::<CllmModel>().create(&PostParams::default(), &model).await?;
    Ok(())
}

fn gates(min_speedup: &str, on_failure: &str, config_map: &str, key: &str) -> Value {
    let prompts = json!({"configMapRef": {"name": config_map, "key": key}});
    json!({"minSpeedup": min_speedup, "onFailure": on_failure, "promptsFrom": prompts})
}

/// A gate with the prompts that are there.
fn gate(min_speedup: &str, on_failure: &str) -> Value {
    gates(min_speedup, on_failure, "questions", "prompts.txt")
}

async fn set_gate(namespace: &TestNamespace, name: &str, gate: Value) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"spec": {"gates": gate}}));
    namespace.api::<CllmModel>().patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// `SpeedupVerified` of a model that was measured.
async fn verified(namespace: &TestNamespace, name: &str) -> anyhow::Result<(Condition, CllmModelStatus)> {
    named_model_is(namespace, name, "to be measured", |status| {
        let verified = condition(&status.conditions, "SpeedupVerified")?;
        (verified.status != "Unknown").then(|| (verified.clone(), status.clone()))
    })
    .await
}

/// The condition tells the measured figure, the wanted one and with what it was measured.
async fn missed(namespace: &TestNamespace, name: &str, consequence: &str) -> anyhow::Result<()> {
    let (verified, status) = verified(namespace, name).await?;
    ensure!(verified.status == "False" && verified.reason == "GateFailed", "{verified:?}");
    let measured = status.speedup.context("the status has no speed-up")?;
    let figure = format!("{} times as fast", measured.over_own_autoregressive);
    let words =
        [figure.as_str(), "minSpeedup asks for 100", "3 prompts of /prompts/questions/prompts.txt", consequence];
    ensure!(words.iter().all(|words| verified.message.contains(words)), "{} has not {words:?}", verified.message);
    Ok(())
}

async fn restarts(namespace: &TestNamespace, name: &str) -> anyhow::Result<Vec<i32>> {
    let pods = replicas(namespace, name).await.map_err(anyhow::Error::msg)?;
    let statuses =
        pods.iter().flat_map(|pod| pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()));
    Ok(statuses.map(|status| status.restart_count).collect())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_missed_gate_blocks_warns_or_falls_back_and_a_passed_one_is_told() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "gates").await?;
    write_keys(&namespace, "ConfigMap", "questions", json!({"prompts.txt": PROMPTS})).await?;

    create(&namespace, "warn", gate("100", "Warn")).await?;
    named_model_is_ready(&namespace, "warn", SOON).await?;
    missed(&namespace, "warn", "The replicas answer all the same.").await?;
    strategy(&namespace, "warn", "Jacobi").await?;

    create(&namespace, "fall-back", gate("100", "FallBackToAutoregressive")).await?;
    named_model_is_ready(&namespace, "fall-back", SOON).await?;
    missed(&namespace, "fall-back", "one token a forward").await?;
    strategy(&namespace, "fall-back", "Autoregressive").await?;
    ensure!(restarts(&namespace, "fall-back").await? == [0], "it was restarted");

    create(&namespace, "block", gate("100", "Block")).await?;
    blocked(&namespace).await?;
    set_gate(&namespace, "block", gate("0.01", "Block")).await?;
    named_model_is_ready(&namespace, "block", SOON).await?;
    let (passed, status) = verified(&namespace, "block").await?;
    ensure!(passed.status == "True" && passed.reason == "GatePassed", "{passed:?}");
    ensure!(passed.message.contains("minSpeedup asks for 0.01"), "{passed:?}");
    ensure!(!is_true(&status.conditions, "Degraded") && !is_true(&status.conditions, "Stalled"), "{status:#?}");

    // What answered with the earlier spec answers on.
    set_gate(&namespace, "block", gate("100", "Block")).await?;
    let status = blocked(&namespace).await?;
    ensure!(status.ready_replicas == 1, "nothing answers: {status:#?}");
    Ok(())
}

async fn strategy(namespace: &TestNamespace, name: &str, expected: &str) -> anyhow::Result<()> {
    named_model_is(namespace, name, expected, |status| {
        (status.effective_strategy.as_deref() == Some(expected)).then_some(())
    })
    .await
}

/// It is not Ready, and says why and what to do.
async fn blocked(namespace: &TestNamespace) -> anyhow::Result<CllmModelStatus> {
    let message = degraded(namespace, "block", "GateFailed").await?;
    let words = ["times as fast", "spec.gates.minSpeedup asks for 100", "lower spec.gates.minSpeedup"];
    ensure!(words.iter().all(|words| message.contains(words)), "{message}");
    missed(namespace, "block", "do not answer").await?;
    ensure!(restarts(namespace, "block").await?.iter().all(|count| *count == 0), "it was restarted");
    let status = namespace.api::<CllmModel>().get("block").await?.status.unwrap_or_default();
    ensure!(!is_true(&status.conditions, "Ready") && is_true(&status.conditions, "Stalled"), "{status:#?}");
    Ok(status)
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn prompts_that_are_not_there_are_named_and_taken_up_when_they_are() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "prompts").await?;
    write_keys(&namespace, "ConfigMap", "other", json!({"others.txt": PROMPTS})).await?;
    write_keys(&namespace, "ConfigMap", "empty", json!({"prompts.txt": "\n"})).await?;
    let cases = [
        ("absent", "MountFailed", ["configmap \"absent\" not found", "Create what is missing"]),
        ("other", "MountFailed", ["prompts.txt (ConfigMap other)", "Create what is missing"]),
        ("empty", "ContainerFailed", ["ConfigMap empty, key prompts.txt", "it has no prompts; write one a line"]),
    ];
    for (name, ..) in cases {
        create(&namespace, name, gates("0.01", "Warn", name, "prompts.txt")).await?;
    }
    for (name, reason, words) in cases {
        let message = degraded(&namespace, name, reason).await?;
        ensure!(message.contains(&format!("Pod {name}-model-")), "{message}");
        ensure!(words.iter().all(|words| message.contains(words)), "{message} has not {words:?}");
        named_model_is(&namespace, name, "not to be Ready", |status| {
            (!is_true(&status.conditions, "Ready")).then_some(())
        })
        .await?;
        write_keys(&namespace, "ConfigMap", name, json!({"prompts.txt": PROMPTS})).await?;
    }
    for (name, ..) in cases {
        named_model_is_ready(&namespace, name, 2 * SOON).await?;
        let (passed, _) = verified(&namespace, name).await?;
        ensure!(
            passed.status == "True" && passed.message.contains(&format!("/prompts/{name}/prompts.txt")),
            "{passed:?}"
        );
    }
    Ok(())
}
