//! The test cluster behaves like the real Kubernetes that it is.

use std::time::Duration;

use anyhow::Context;
use cllm_tests::{ControlPlane, TestNamespace, eventually, eventually_object};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Namespace, Pod},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

fn deployment() -> serde_json::Result<Deployment> {
    let labels = json!({ "app": "web" });
    let object = json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec() },
        },
    });
    serde_json::from_value(object)
}

/// One container that may become root: the `baseline` standard allows that, `restricted` does not.
fn pod_spec() -> serde_json::Value {
    json!({ "containers": [{ "name": "web", "image": "example.invalid/web" }] })
}

#[tokio::test]
async fn a_deployment_gets_a_replica_set_and_that_its_pods() -> anyhow::Result<()> {
    let namespace = TestNamespace::create(ControlPlane::shared().await?, "rollout").await?;
    namespace.api::<Deployment>().create(&PostParams::default(), &deployment()?).await?;

    let replica_sets = namespace.api::<ReplicaSet>();
    let pods = namespace.api::<Pod>();
    eventually("a replica set of the deployment and two pods", SOON, async || {
        let replica_sets = replica_sets.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let pods = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let owner = replica_sets.first().and_then(|set| set.metadata.owner_references.as_ref()?.first());
        match owner {
            Some(owner) if owner.name == "web" && pods.len() == 2 => Ok(()),
            _ => Err(format!("{} replica sets, owner {owner:?}, {} pods", replica_sets.len(), pods.len())),
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_restricted_namespace_refuses_a_pod_that_may_become_root() -> anyhow::Result<()> {
    let namespace = TestNamespace::create_restricted(ControlPlane::shared().await?, "restricted").await?;
    let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "root" }, "spec": pod_spec() }))?;
    let refusal = namespace.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap_err();
    let kube::Error::Api(status) = refusal else { panic!("not refused by the API server: {refusal}") };
    assert_eq!(status.code, 403);
    assert!(status.message.contains(r#"violates PodSecurity "restricted"#), "{}", status.message);
    Ok(())
}

#[tokio::test]
async fn a_restricted_namespace_warns_of_a_deployment_whose_pods_it_will_refuse() -> anyhow::Result<()> {
    let cluster = ControlPlane::shared().await?;
    let namespace = TestNamespace::create_restricted(cluster, "restricted").await?;
    let manifest = serde_json::to_string(&deployment()?)?;
    let created = cluster.kubectl_with_input(&["create", "-n", namespace.name(), "-f", "-"], &manifest).await?;
    assert_eq!(created.stdout, "deployment.apps/web created\n");
    assert!(created.stderr.contains("Warning: would violate PodSecurity"), "{}", created.stderr);

    let refused = |set: &ReplicaSet| set.status.as_ref()?.conditions.as_ref()?.first()?.message.clone();
    let replica_sets = namespace.api::<ReplicaSet>();
    let name = eventually("a replica set", SOON, async || {
        let sets = replica_sets.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        sets.items.first().and_then(|set| set.metadata.name.clone()).ok_or("none".to_owned())
    })
    .await?;
    let message = eventually_object(&replica_sets, &name, "the refusal in its status", SOON, refused).await?;
    assert!(message.contains("allowPrivilegeEscalation"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_namespace_is_deleted_when_its_test_ends() -> anyhow::Result<()> {
    let cluster = ControlPlane::shared().await?;
    let namespaces = Api::<Namespace>::all(cluster.client()?);
    let name = TestNamespace::create(cluster, "short-lived").await?.name().to_owned();
    eventually(&format!("the end of namespace {name}"), SOON, async || match namespaces.get_opt(&name).await {
        Ok(None) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn kubectl_speaks_the_servers_version_and_reports_its_failures() -> anyhow::Result<()> {
    let cluster = ControlPlane::shared().await?;
    let versions: serde_json::Value = serde_json::from_str(&cluster.kubectl(&["version", "-o=json"]).await?.stdout)?;
    let version = |side: &str| versions[side]["gitVersion"].as_str().map(str::to_owned).context("no gitVersion");
    assert_eq!(version("serverVersion")?, version("clientVersion")?);
    assert!(version("serverVersion")?.starts_with("v1."), "{versions}");

    let failure = cluster.kubectl(&["get", "pod", "nobody"]).await.unwrap_err().to_string();
    assert!(failure.contains("`kubectl get pod nobody`") && failure.contains("NotFound"), "{failure}");
    Ok(())
}
