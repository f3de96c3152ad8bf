//! What the documentation tells people to apply is accepted by a real API server, as it stands there.

use anyhow::ensure;
use cllm_tests::product::{repository, service_monitor_definition, yaml_of_page};
use cllm_tests::{ControlPlane, TestNamespace};
use serde_json::{Value, json};

/// A definition that stands for KEDA's own: it shows that the YAML is what an API server reads, not that KEDA understands it.
fn scaled_objects() -> Value {
    let anything = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh", "scope": "Namespaced",
            "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": anything}],
        },
    })
}

async fn install(cluster: &ControlPlane) -> anyhow::Result<()> {
    let ours = ["cllmmodels", "cllmtrainings"].map(|name| repository().join(format!("crds/{name}.yaml")));
    for file in ours.into_iter().chain([service_monitor_definition().await?]) {
        let file = file.display().to_string();
        cluster.kubectl(&["apply", "--server-side", "-f", &file]).await?;
        cluster.kubectl(&["wait", "--for=condition=Established", "-f", &file, "--timeout=30s"]).await?;
    }
    cluster.kubectl_with_input(&["apply", "-f", "-"], &scaled_objects().to_string()).await?;
    let wait = ["wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", "--timeout=30s"];
    cluster.kubectl(&wait).await.map(|_| ()).map_err(anyhow::Error::from)
}

#[tokio::test]
async fn all_that_is_told_about_autoscaling_can_be_applied() -> anyhow::Result<()> {
    let cluster = ControlPlane::shared().await?;
    install(cluster).await?;
    let namespace = TestNamespace::create_restricted(cluster, "docs").await?;
    let page = yaml_of_page("autoscaling.md")?;
    let arguments = ["apply", "--warnings-as-errors", "-n", namespace.name(), "-f", "-"];
    let applied = cluster.kubectl_with_input(&arguments, &page).await?;
    ensure!(applied.stderr.is_empty(), "{}", applied.stderr);
    let created = applied.stdout.lines().filter(|line| line.ends_with(" created")).count();
    let documents = page.lines().filter(|line| line.starts_with("kind: ")).count();
    ensure!(created == documents && documents == 7, "{documents} documents: {}", applied.stdout);
    Ok(())
}
