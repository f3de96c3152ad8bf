//! The chart over the life of a release, and for one namespace only.

use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::{
    Cluster, TestNamespace, eventually,
    product::{Product, chart},
};
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::scenario::{
    CHILDREN, SOON, cluster, completed, create_model, create_training, filled, model_is_ready, team,
};

/// Time in which an operator that looks would have acted.
const A_WHILE: Duration = Duration::from_secs(20);

/// What a release declares: everything of it, without what the API server and other controllers write.
async fn declared(cluster: &Cluster, product: &Product<'_>) -> anyhow::Result<Vec<Value>> {
    let namespaced = "deployments,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets";
    let of_cluster = "clusterroles,clusterrolebindings,customresourcedefinitions,mutatingwebhookconfigurations";
    let of_release = "app.kubernetes.io/instance=cllm";
    let mut found = Vec::new();
    for arguments in [
        vec!["get", namespaced, "-n", product.namespace(), "-l", of_release, "-o", "json"],
        vec!["get", of_cluster, "-l", of_release, "-o", "json"],
    ] {
        let list: Value = serde_json::from_str(&cluster.control_plane().kubectl(&arguments).await?.stdout)?;
        found.extend(list["items"].as_array().context("no list")?.iter().map(normal));
    }
    Ok(found)
}

fn normal(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let written = ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"];
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| !written.contains(&key.as_str()));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("deployment.kubernetes.io/revision");
        }
    }
    object
}

/// Uid and restarts of each Pod that serves the model.
async fn replicas(namespace: &TestNamespace) -> anyhow::Result<Vec<(String, i32)>> {
    let pods = namespace.api::<Pod>().list(&ListParams::default().labels("cllm.dev/model=text2sql")).await?;
    let of = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        (pod.uid().unwrap_or_default(), statuses.map(|status| status.restart_count).sum())
    };
    Ok(pods.iter().map(of).collect())
}

/// Deletes a child of the model and waits until it is there again: an operator works.
async fn an_operator_works(cluster: &Cluster, namespace: &TestNamespace) -> anyhow::Result<()> {
    let selector = "cllm.dev/model=text2sql";
    let delete = ["delete", "networkpolicies", "-n", namespace.name(), "-l", selector];
    let deleted = cluster.control_plane().kubectl(&delete).await?.stdout;
    ensure!(deleted.lines().count() == 1, "{deleted}");
    eventually("the policy to be back", SOON, async || {
        let list = namespace.api::<NetworkPolicy>().list(&ListParams::default().labels(selector)).await;
        let list = list.map_err(|error| error.to_string())?;
        if list.items.len() == 1 { Ok(()) } else { Err(format!("{} policies", list.items.len())) }
    })
    .await?;
    model_is_ready(namespace).await
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_release_is_upgraded_and_rolled_back_and_nothing_that_serves_notices() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "serving").await?;
    create_model(&namespace, json!({})).await?;
    model_is_ready(&namespace).await?;
    let (installed, serving) = (declared(&cluster, &product).await?, replicas(&namespace).await?);
    ensure!(installed.len() == 21 && serving.len() == 1, "{installed:#?} {serving:?}");

    product
        .upgrade(&[
            "replicas=1",
            "logLevel=debug",
            "images.server=cllm-server:next",
            "images.trainer=cllm-trainer:next",
            "networkPolicy.enabled=false",
            "podDisruptionBudget.enabled=false",
            "rbac.aggregate=false",
            "commonLabels.stage=next",
            "podAnnotations.stage=next",
        ])
        .await?;
    an_operator_works(&cluster, &namespace).await?;
    let upgraded = declared(&cluster, &product).await?;
    ensure!(upgraded.len() == 17, "{upgraded:#?}");
    let unchanged: Vec<_> = upgraded.iter().filter(|object| installed.contains(object)).collect();
    ensure!(unchanged.is_empty(), "not upgraded: {unchanged:#?}");

    product.roll_back("1").await?;
    an_operator_works(&cluster, &namespace).await?;
    let rolled_back = declared(&cluster, &product).await?;
    let differing: Vec<_> = installed.iter().zip(&rolled_back).filter(|(before, after)| before != after).collect();
    ensure!(rolled_back.len() == installed.len() && differing.is_empty(), "not as before: {differing:#?}");
    product.test().await?;
    tokio::time::sleep(A_WHILE).await;
    ensure!(replicas(&namespace).await? == serving, "replicas were replaced or restarted");

    product.uninstall().await?;
    product.only_the_definitions_are_left().await?;
    ensure!(declared(&cluster, &product).await?.len() == 2, "more than the definitions carries the release's labels");
    model_is_ready(&namespace).await?;
    ensure!(replicas(&namespace).await? == serving, "the model went with its operator");
    Ok(())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn an_operator_with_roles_only_serves_and_trains_in_its_namespace_and_leaves_others_alone() -> anyhow::Result<()>
{
    let cluster = cluster(1).await?;
    let control_plane = cluster.control_plane();
    let definitions = ["install", "cllm-definitions", &chart(), "-n", "kube-system", "--set", "scope=Definitions"];
    control_plane.helm(&definitions).await?;
    let (own, other) = (filled(&cluster, "own").await?, team(&cluster, "other").await?);
    create_model(&other, json!({})).await?;
    create_training(&other, json!({})).await?;
    // Somebody who administrates the namespace, and nothing else.
    control_plane
        .kubectl(&["create", "rolebinding", "tenant", "-n", own.name(), "--clusterrole=admin", "--user=tenant"])
        .await?;
    let product = Product::install_as(&cluster, own, "tenant", &["scope=Namespace", "crds.install=false"]).await?;
    let own = product.test_namespace();

    create_training(own, json!({})).await?;
    create_model(own, json!({"model": {"uri": null, "trainingRef": {"name": "text2sql"}}})).await?;
    completed(own).await?;
    model_is_ready(own).await?;

    tokio::time::sleep(A_WHILE).await;
    let model = other.api::<CllmModel>().get("text2sql").await?;
    let training = other.api::<CllmTraining>().get("text2sql").await?;
    ensure!(model.status.is_none() && training.status.is_none(), "{:?} {:?}", model.status, training.status);
    let children = control_plane.kubectl(&["get", CHILDREN, "-n", other.name(), "-o", "name"]).await?.stdout;
    let children: Vec<_> = children.lines().filter(|name| !name.starts_with("persistentvolumeclaim/")).collect();
    ensure!(children.is_empty(), "in the other namespace: {children:?}");

    has_no_right_outside(&cluster, own, &other).await?;
    product.uninstall().await?;
    control_plane.helm(&["uninstall", "cllm-definitions", "-n", "kube-system", "--wait"]).await?;
    Ok(product.only_the_definitions_are_left().await?)
}

/// What the API server says to the operator's service account.
async fn has_no_right_outside(cluster: &Cluster, own: &TestNamespace, other: &TestNamespace) -> anyhow::Result<()> {
    let account = format!("system:serviceaccount:{}:cllm-operator", own.name());
    let may = async |verb: &str, resource: &str, place: &[&str]| -> anyhow::Result<bool> {
        let mut arguments = vec!["auth", "can-i", verb, resource, "--as", &account];
        arguments.extend(place);
        // It ends with 1 for a no.
        Ok(cluster.control_plane().kubectl(&arguments).await.is_ok_and(|output| output.stdout.trim() == "yes"))
    };
    for (verb, resource) in [
        ("list", "cllmmodels.cllm.dev"),
        ("watch", "cllmtrainings.cllm.dev"),
        ("create", "jobs.batch"),
        ("patch", "deployments.apps"),
        ("list", "pods"),
        ("get", "leases.coordination.k8s.io"),
    ] {
        ensure!(may(verb, resource, &["-n", own.name()]).await?, "it may not {verb} {resource} in its namespace");
        ensure!(!may(verb, resource, &["-n", other.name()]).await?, "it may {verb} {resource} elsewhere");
        ensure!(!may(verb, resource, &["--all-namespaces"]).await?, "it may {verb} {resource} everywhere");
    }
    for bindings in ["clusterrolebindings", "rolebindings"] {
        let output = cluster.control_plane().kubectl(&["get", bindings, "-A", "-o", "json"]).await?;
        let list: Value = serde_json::from_str(&output.stdout)?;
        let is_bound = |binding: &&Value| {
            let mut subjects = binding["subjects"].as_array().into_iter().flatten();
            subjects.any(|subject| subject["name"] == "cllm-operator")
        };
        let bound: Vec<_> = list["items"].as_array().context("no list")?.iter().filter(is_bound).collect();
        let names: Vec<_> = bound.iter().filter_map(|binding| binding["metadata"]["name"].as_str()).collect();
        let wanted: &[&str] = if bindings == "rolebindings" { &["cllm-operator", "cllm-operator-leader"] } else { &[] };
        ensure!(names == wanted, "{bindings}: {names:?}");
    }
    Ok(())
}
