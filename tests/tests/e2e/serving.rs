//! Replicas that are replaced under a steady stream of requests, and an operator that is.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, ensure};
use cllm_crds::CllmModel;
use cllm_tests::{Cluster, TestNamespace, eventually, product::Product};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    load::Load,
    scenario::{SOON, cluster, create_model, model_is, model_is_ready, patch_model, replicas, service_url, team},
};

/// The uids of the model's Pods that are not about to go.
async fn uids(namespace: &TestNamespace) -> Result<BTreeSet<String>, String> {
    Ok(replicas(namespace, "text2sql").await?.iter().filter_map(ResourceExt::uid).collect())
}

/// Changes the Pods of the model, and waits until none of the old ones is left and all new ones answer.
async fn roll(namespace: &TestNamespace, version: &str) -> anyhow::Result<()> {
    let before = uids(namespace).await.map_err(anyhow::Error::msg)?;
    patch_model(namespace, json!({"podAnnotations": {"version": version}})).await?;
    eventually("all replicas to be replaced", SOON, async || {
        let now = uids(namespace).await?;
        if now.is_disjoint(&before) && now.len() == before.len() { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await?;
    model_is_ready(namespace).await
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn rolling_fails_no_request_and_an_operator_upgrade_restarts_no_replica() -> anyhow::Result<()> {
    let cluster = cluster(2).await?;
    let product = Product::install(&cluster, &[]).await?;
    let surging = team(&cluster, "surging").await?;
    create_model(&surging, json!({"replicas": 1, "rollout": {"strategy": "Surge"}})).await?;
    let paired = team(&cluster, "paired").await?;
    create_model(&paired, json!({"replicas": 2})).await?;
    for namespace in [&surging, &paired] {
        model_is_ready(namespace).await?;
        let load = Load::start(&cluster.network_namespace(0), &service_url(namespace).await?, "text2sql")?;
        for version in ["1", "2"] {
            roll(namespace, version).await?;
        }
        ensure!(load.sent() > 20, "only {} requests were sent", load.sent());
        let failures = load.failures();
        ensure!(failures.is_empty(), "{}: {failures:#?}", namespace.name());
    }

    let before = uids(&paired).await.map_err(anyhow::Error::msg)?;
    // Another version of everything: other images are the defaults from now on.
    product
        .upgrade(&["images.server=cllm-server:next", "images.trainer=cllm-trainer:next", "podAnnotations.version=next"])
        .await?;
    touch(&paired).await?;
    ensure!(uids(&paired).await.map_err(anyhow::Error::msg)? == before, "replicas were replaced");
    model_is_ready(&paired).await
}

/// Makes the operator look at the model again, and gives it time to do something wrong.
async fn touch(namespace: &TestNamespace) -> anyhow::Result<()> {
    let poke = json!({"metadata": {"annotations": {"poke": "1"}}});
    namespace.api::<CllmModel>().patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await?;
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    Ok(())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_node_with_one_device_rolls_in_place() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "device").await?;
    give_device(&cluster).await?;
    create_model(&namespace, json!({"resources": {"limits": {"example.com/gpu": "1"}}})).await?;
    model_is_ready(&namespace).await?;
    let rolled = Instant::now();
    roll(&namespace, "1").await?;
    let took = rolled.elapsed().as_secs();
    let downtime = model_is(&namespace, "its downtime", |status| {
        status.last_downtime.clone().filter(|last| last.ended_at.is_some())
    })
    .await?;
    let seconds = downtime.seconds.context("no length")?;
    ensure!(downtime.reason == "Rollout" && (1..=took + 2).contains(&seconds), "{downtime:?} within {took} s");
    let events = cluster.control_plane().kubectl(&["get", "events", "-n", namespace.name(), "-o", "wide"]).await?;
    let told = format!("No replica answered for {seconds} s");
    ensure!(events.stdout.contains(&told), "{told}: {}", events.stdout);
    Ok(())
}

/// What a device plugin would do.
async fn give_device(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(cluster.control_plane().client()?);
    let capacity: Value = json!({"status": {"capacity": {"example.com/gpu": "1"}}});
    nodes.patch_status("node-0", &PatchParams::default(), &Patch::Merge(capacity)).await?;
    eventually("the device to be allocatable", SOON, async || {
        let node = nodes.get("node-0").await.map_err(|error| error.to_string())?;
        let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
        if allocatable.contains_key("example.com/gpu") { Ok(()) } else { Err(format!("{allocatable:?}")) }
    })
    .await?;
    Ok(())
}
