//! Whatever is killed, a training ends as if nothing had been.

use std::time::Duration;

use anyhow::ensure;
use cllm_tests::{Cluster, TestNamespace, Write, eventually, product::Product};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::scenario::{SOON, cluster, completed, create_training, digest, kill_operator, kill_pod, running_pod, team};

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn operators_and_pods_that_are_killed_in_each_stage_change_nothing() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    let quiet = team(&cluster, "quiet").await?;
    create_training(&quiet, json!({})).await?;
    let undisturbed = completed(&quiet).await?;

    let operators = team(&cluster, "operators").await?;
    create_training(&operators, json!({})).await?;
    for stage in ["collect", "train", "evaluate"] {
        running_pod(&operators, stage).await?;
        kill_operator(&cluster, &product).await?;
    }
    let status = completed(&operators).await?;
    ensure!(digest(&status)? == digest(&undisturbed)?, "{status:#?} is not {undisturbed:#?}");
    ensure!(jobs_created(&product, &operators)? == 3, "{:#?}", product.writes()?);

    let pods = team(&cluster, "pods").await?;
    create_training(&pods, json!({})).await?;
    for stage in ["collect", "train", "evaluate"] {
        let pod = running_pod(&pods, stage).await?;
        tokio::time::sleep(Duration::from_secs(2)).await; // in the middle of its work
        kill_pod(pods.name(), pods.client(), &pod.name_any()).await?;
    }
    let status = completed(&pods).await?;
    ensure!(digest(&status)? == digest(&undisturbed)?, "{status:#?} is not {undisturbed:#?}");
    ensure!(jobs_created(&product, &pods)? == 3, "{:#?}", product.writes()?);
    Ok(())
}

fn jobs_created(product: &Product<'_>, namespace: &TestNamespace) -> anyhow::Result<usize> {
    let is_ours = |write: &&Write| write.namespace == namespace.name() && write.resource == "jobs";
    Ok(product.writes()?.iter().filter(is_ours).filter(|write| write.verb == "create" && write.code == 201).count())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn nodes_that_are_lost_in_collection_and_in_training_are_made_up_for_by_the_others() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let _product = Product::install(&cluster, &[]).await?;
    for stage in ["collect", "train"] {
        lose_a_node(&cluster, stage).await?;
    }
    Ok(())
}

/// Loses the node on which this stage runs, and has it again afterwards.
async fn lose_a_node(cluster: &Cluster, stage: &str) -> anyhow::Result<()> {
    let namespace = team(cluster, stage).await?;
    create_training(&namespace, json!({})).await?;
    let pod = running_pod(&namespace, stage).await?;
    let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
    let number: usize = node.trim_start_matches("node-").parse()?;
    cluster.kill_node(number);
    let nodes = Api::<Node>::all(namespace.client());
    eventually("the node to be lost", SOON, async || {
        let node = nodes.get(&node).await.map_err(|error| error.to_string())?;
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        if taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable") {
            Ok(())
        } else {
            Err(format!("{taints:?}"))
        }
    })
    .await?;
    let taint = json!({"spec": {"taints": [
        {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
    ]}});
    nodes.patch(&node, &PatchParams::default(), &Patch::Merge(taint)).await?;
    completed(&namespace).await?;
    let no_taint = json!({"spec": {"taints": null}});
    nodes.patch(&node, &PatchParams::default(), &Patch::Merge(no_taint)).await?;
    cluster.restart_node(number).await?;
    Ok(())
}
