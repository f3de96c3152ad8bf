//! Volumes that one node only may use.

use anyhow::{Context, ensure};
use cllm_tests::{Cluster, TestNamespace, eventually_object, product::Product};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::scenario::{SOON, cluster, create_training, team, training_condition, training_is_degraded};

/// A workspace that only one node has, shards that run at once, and a stage that has to run on the other node.
#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn stages_on_two_nodes_without_shared_storage_are_told_of() -> anyhow::Result<()> {
    let cluster = cluster(2).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "storage").await?;
    claim_of_node(&cluster, &namespace, "workspace", "node-0").await?;
    create_training(
        &namespace,
        json!({
            "trajectories": {"parallelism": 2},
            "training": {"nodeSelector": {"kubernetes.io/hostname": "node-1"}},
            // null removes the fields of a new claim
            "workspace": {"claimName": "workspace", "size": null, "accessModes": null},
        }),
    )
    .await?;
    let shared = training_condition(&namespace, "StorageShared", "False", SOON).await?;
    ensure!(shared.reason == "OneNodeOnly" && shared.message.contains("workspace (ReadWriteOnce)"), "{shared:?}");
    // The scheduler keeps the shards where their volume is, and the next stage may not go there.
    let degraded = training_is_degraded(&namespace).await?;
    ensure!(degraded.reason == "Unschedulable" && degraded.message.contains("text2sql-train-"), "{degraded:?}");
    ensure!(degraded.message.contains("ReadWriteMany"), "no next step: {degraded:?}");
    let collected = training_condition(&namespace, "TrajectoriesCollected", "True", SOON).await?;
    ensure!(collected.reason == "StageSucceeded", "{collected:?}");
    Ok(())
}

/// A claim of a volume that only this node has.
async fn claim_of_node(cluster: &Cluster, namespace: &TestNamespace, name: &str, node: &str) -> anyhow::Result<()> {
    let folder = cluster.folder_of_claim(namespace.name(), "models").with_file_name(name);
    std::fs::create_dir(&folder)?;
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let volume_name = format!("{}-{name}", namespace.name());
    let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]);
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": volume_name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "one-node",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder},
            "claimRef": {"namespace": namespace.name(), "name": name},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }))?;
    Api::all(cluster.control_plane().client()?).create(&PostParams::default(), &volume).await?;
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "one-node", "volumeName": volume_name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }))?;
    let claims = namespace.api::<PersistentVolumeClaim>();
    claims.create(&PostParams::default(), &claim).await?;
    let bound = eventually_object(&claims, name, "the claim to be bound", SOON, |claim: &PersistentVolumeClaim| {
        (claim.status.as_ref()?.phase.as_deref() == Some("Bound")).then_some(())
    });
    bound.await.with_context(|| name.to_owned())
}
