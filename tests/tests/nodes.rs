//! The cluster with nodes does what tests rely on: Pods run and reach each other, volumes are shared, a lost node is noticed, nothing is left.

use std::time::Duration;

use anyhow::ensure;
use cllm_tests::{Cluster, TestNamespace, eventually};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn pods_run_on_all_nodes_share_a_volume_and_leave_a_lost_node() -> anyhow::Result<()> {
    let cluster = Cluster::start(2, &[]).await?;
    let namespace = TestNamespace::create_restricted(cluster.control_plane(), "nodes").await?;
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }))?;
    namespace.api::<PersistentVolumeClaim>().create(&PostParams::default(), &claim).await?;
    let deployment = deployment();
    cluster
        .control_plane()
        .kubectl_with_input(&["apply", "-n", namespace.name(), "-f", "-"], &deployment.to_string())
        .await?;
    let pods = namespace.api::<Pod>();
    eventually("a Pod on each node", SOON, async || {
        let nodes = nodes_of_ready_pods(&pods).await?;
        if nodes == ["node-0", "node-1"] { Ok(()) } else { Err(format!("ready Pods on {nodes:?}")) }
    })
    .await?;

    cluster.kill_node(0);
    eventually("both Pods on the other node", SOON, async || {
        let nodes = nodes_of_ready_pods(&pods).await?;
        if nodes == ["node-1", "node-1"] { Ok(()) } else { Err(format!("ready Pods on {nodes:?}")) }
    })
    .await?;
    let node = Api::<Node>::all(namespace.client()).get("node-0").await?;
    ensure!(node.spec.and_then(|spec| spec.taints).is_some_and(|taints| !taints.is_empty()), "no taint");
    Ok(cluster.restart_node(0).await?)
}

/// The nodes of the Pods that are Ready and not about to go.
async fn nodes_of_ready_pods(pods: &Api<Pod>) -> Result<Vec<String>, String> {
    let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        pod.metadata.deletion_timestamp.is_none()
            && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let mut nodes: Vec<_> = list
        .iter()
        .filter(is_ready)
        .map(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_else(|| pod.name_any()))
        .collect();
    nodes.sort();
    Ok(nodes)
}

/// Two Pods that rather run on different nodes, and mount the claim `shared`.
fn deployment() -> serde_json::Value {
    let labels = json!({"app": "pause"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pause"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": labels},
                    }],
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65535, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "pause", "image": "cllm.test/pause:1", "imagePullPolicy": "Never",
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
                    }],
                    "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}],
                },
            },
        },
    })
}
