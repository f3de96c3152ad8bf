//! The operator at rest, and when it or everything goes.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use cllm_tests::{TestNamespace, Write, eventually, product::Product};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::scenario::{
    CHILDREN, SOON, cluster, completed, create_model, create_training, filled, model_is_ready, running_pod, team,
};

const CONVERGED: Duration = Duration::from_secs(60);
const AT_REST: Duration = Duration::from_secs(600);

/// `kind/name` → resource version.
async fn versions(
    cluster: &cllm_tests::Cluster,
    namespace: &TestNamespace,
) -> anyhow::Result<BTreeMap<String, String>> {
    let template = "-o=jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    let output = cluster.control_plane().kubectl(&["get", CHILDREN, "-n", namespace.name(), template]).await?;
    let pair = |line: &str| line.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
    Ok(output.stdout.lines().filter_map(pair).collect())
}

#[tokio::test]
#[ignore = "twelve minutes: make e2e"]
async fn for_ten_minutes_at_rest_nothing_is_written_but_leases() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "rest").await?;
    create_training(&namespace, json!({})).await?;
    completed(&namespace).await?;
    create_model(&namespace, json!({"model": {"uri": null, "trainingRef": {"name": "text2sql"}}})).await?;
    model_is_ready(&namespace).await?;
    tokio::time::sleep(CONVERGED).await;

    let (versions_before, writes_before) = (versions(&cluster, &namespace).await?, product.writes()?.len());
    ensure!(versions_before.len() > 5, "{versions_before:?}");
    tokio::time::sleep(AT_REST).await;
    let versions_after = versions(&cluster, &namespace).await?;
    ensure!(versions_after == versions_before, "{versions_before:#?} became {versions_after:#?}");
    let writes = product.writes()?;
    // A question to the API server (who asks, and may they) is a POST that changes nothing.
    let unchanging = ["leases", "tokenreviews", "subjectaccessreviews"];
    let changes = |write: &&Write| !unchanging.contains(&write.resource.as_str());
    let others: Vec<_> = writes[writes_before..].iter().filter(changes).collect();
    ensure!(others.is_empty(), "{others:#?}");
    ensure!(writes.len() > writes_before, "no Lease was renewed: the audit log is not read");
    Ok(())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_namespace_with_models_and_trainings_goes_also_without_an_operator() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    // Without an operator nobody says that a model is not Ready any more.
    let first = team(&cluster, "first").await?;
    let (second, third) = (filled(&cluster, "second").await?, filled(&cluster, "third").await?);
    for namespace in [&*first, &second, &third] {
        create_model(namespace, json!({})).await?;
        create_training(namespace, json!({})).await?;
        running_pod(namespace, "collect").await?;
    }
    delete(&first).await?;
    // What is registered with the API server goes too: an APIService that leads nowhere would hold every namespace.
    product.upgrade(&["replicas=0"]).await?;
    delete(&second).await?;
    product.uninstall().await?;
    delete(&third).await
}

async fn delete(namespace: &TestNamespace) -> anyhow::Result<()> {
    let namespaces = Api::<Namespace>::all(namespace.client());
    namespaces.delete(namespace.name(), &DeleteParams::default()).await?;
    eventually("the namespace to be gone", SOON, async || match namespaces.get_opt(namespace.name()).await {
        Ok(None) => Ok(()),
        Ok(Some(left)) => Err(format!("{:#?}", left.status)),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    Ok(())
}
