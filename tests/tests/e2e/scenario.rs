//! A cluster with the chart installed, and a namespace of a team with the example's data.

use std::{ops::Deref, time::Duration};

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmModelStatus, CllmTraining, CllmTrainingStatus};
pub(crate) use cllm_operator::conditions::{find as condition, is_true};
use cllm_tests::product::{Product, binary, fill_example};
use cllm_tests::{Cluster, ReadySampler, TestNamespace, eventually, eventually_object, images};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

/// Everything that the product makes.
pub(crate) const CHILDREN: &str =
    "deployments,services,jobs,persistentvolumeclaims,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers";
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// A whole training of the smoke example, with what is done to it, on a busy machine with two cores.
pub(crate) const TRAINED_WITHIN: Duration = Duration::from_secs(600);

/// A status follows its Pods; the pages of those that are going are waited for.
const READY_FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// A cluster that has images; the product is installed on it.
pub(crate) async fn cluster(nodes: usize) -> anyhow::Result<Cluster> {
    Ok(Cluster::start(nodes, &images()?).await?)
}

/// A team's namespace, in which no model may be Ready without a replica that answers.
pub(crate) struct Team {
    sampler: ReadySampler,
    namespace: TestNamespace,
}

impl Deref for Team {
    type Target = TestNamespace;

    fn deref(&self) -> &TestNamespace {
        &self.namespace
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let wrong = self.sampler.wrong();
        assert!(wrong.is_empty() || std::thread::panicking(), "Ready without a ready replica: {wrong:#?}");
    }
}

/// A team's namespace with the example's data.
pub(crate) async fn team(cluster: &Cluster, name: &str) -> anyhow::Result<Team> {
    let namespace = filled(cluster, name).await?;
    Ok(Team { sampler: ReadySampler::start(&namespace, READY_FOLLOWS_WITHIN), namespace })
}

/// The namespace alone.
pub(crate) async fn filled(cluster: &Cluster, name: &str) -> anyhow::Result<TestNamespace> {
    let namespace = TestNamespace::create_restricted(cluster.control_plane(), name).await?;
    fill_example(cluster, &namespace, &binary("text2sql-data")?).await?;
    Ok(namespace)
}

/// The smoke example's training, with these fields of its spec changed.
pub(crate) fn training(change: Value) -> anyhow::Result<CllmTraining> {
    let mut resource = json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmTraining", "metadata": {"name": "text2sql"},
        "spec": {
            "model": {"uri": "pvc://text2sql/target"},
            "dataset": {
                "uri": "pvc://text2sql/data/train.jsonl.gz", "testUri": "pvc://text2sql/data/test.jsonl.gz", "maxExamples": 64,
            },
            "trajectories": {"shards": 2, "parallelism": 1, "blockSize": 16, "maxNewTokens": 128},
            "training": {"steps": 8, "batchSize": 4, "learningRate": "0.001", "checkpointEverySteps": 2},
            "evaluation": {"metric": "SqlExecution", "databaseUri": "pvc://text2sql/data/shop.sqlite", "prompts": 16},
            "output": {"uri": "pvc://models/text2sql"},
            "workspace": {"size": "1Gi", "accessModes": ["ReadWriteMany"]},
        },
    });
    merge(&mut resource["spec"], change);
    Ok(serde_json::from_value(resource)?)
}

/// A model that serves the example's target, with these fields of its spec changed.
pub(crate) fn model(change: Value) -> anyhow::Result<CllmModel> {
    let mut resource = json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": "text2sql"},
        "spec": {"model": {"uri": "pvc://text2sql/target"}},
    });
    merge(&mut resource["spec"], change);
    Ok(serde_json::from_value(resource)?)
}

/// As a JSON merge patch.
fn merge(value: &mut Value, change: Value) {
    match (value, change) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

/// Creates a training and returns its name.
pub(crate) async fn create_training(namespace: &TestNamespace, change: Value) -> anyhow::Result<()> {
    namespace.api::<CllmTraining>().create(&PostParams::default(), &training(change)?).await?;
    Ok(())
}

pub(crate) async fn create_model(namespace: &TestNamespace, change: Value) -> anyhow::Result<()> {
    namespace.api::<CllmModel>().create(&PostParams::default(), &model(change)?).await?;
    Ok(())
}

pub(crate) async fn patch_model(namespace: &TestNamespace, spec: Value) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    namespace.api::<CllmModel>().patch("text2sql", &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Waits until the training has completed; that it failed is an error with its reason.
pub(crate) async fn completed(namespace: &TestNamespace) -> anyhow::Result<CllmTrainingStatus> {
    let what = "the training to end";
    let status = eventually_object(
        &namespace.api::<CllmTraining>(),
        "text2sql",
        what,
        TRAINED_WITHIN,
        |training: &CllmTraining| {
            let status = training.status.clone()?;
            (is_true(&status.conditions, "Complete") || is_true(&status.conditions, "Failed")).then_some(status)
        },
    )
    .await?;
    ensure!(is_true(&status.conditions, "Complete"), "{:#?}", condition(&status.conditions, "Failed"));
    Ok(status)
}

/// The digest of the output of a training that completed.
pub(crate) fn digest(status: &CllmTrainingStatus) -> anyhow::Result<&str> {
    Ok(&status.output.as_ref().context("no output")?.digest)
}

/// Waits for a Pod that runs this stage and has been working for a moment, and returns it.
pub(crate) async fn running_pod(namespace: &TestNamespace, stage: &str) -> anyhow::Result<Pod> {
    let pods = namespace.api::<Pod>();
    let selector = ListParams::default().labels(&format!("cllm.dev/stage={stage}"));
    let what = format!("a running Pod of stage {stage}");
    let running = eventually(&what, SOON, async || {
        let list = pods.list(&selector).await.map_err(|error| error.to_string())?;
        let is_running = |pod: &&Pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
                && pod.metadata.deletion_timestamp.is_none()
        };
        list.iter().find(is_running).cloned().ok_or_else(|| format!("{} Pods", list.items.len()))
    });
    Ok(running.await?)
}

/// Ends a Pod at once, as if its process had been killed and its object with it.
pub(crate) async fn kill_pod(namespace: &str, client: kube::Client, name: &str) -> anyhow::Result<()> {
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    kube::Api::<Pod>::namespaced(client, namespace).delete(name, &at_once).await?;
    Ok(())
}

/// Ends the Pods of the operator at once.
pub(crate) async fn kill_operator(cluster: &Cluster, product: &Product<'_>) -> anyhow::Result<()> {
    let client = cluster.control_plane().client()?;
    let pods = kube::Api::<Pod>::namespaced(client.clone(), product.namespace());
    for pod in pods.list(&ListParams::default().labels("app.kubernetes.io/name=cllm-operator")).await? {
        kill_pod(product.namespace(), client.clone(), &pod.name_any()).await?;
    }
    Ok(())
}

/// Waits until the status of the model is as wanted.
pub(crate) async fn model_is<T>(
    namespace: &TestNamespace,
    what: &str,
    accept: impl FnMut(&CllmModelStatus) -> Option<T>,
) -> anyhow::Result<T> {
    named_model_is(namespace, "text2sql", what, accept).await
}

/// The same of a model with another name.
pub(crate) async fn named_model_is<T>(
    namespace: &TestNamespace,
    name: &str,
    what: &str,
    mut accept: impl FnMut(&CllmModelStatus) -> Option<T>,
) -> anyhow::Result<T> {
    let models = namespace.api::<CllmModel>();
    let what = format!("{name}: {what}");
    Ok(eventually_object(&models, name, &what, SOON, |model: &CllmModel| accept(model.status.as_ref()?)).await?)
}

/// Waits until the model is Ready for the newest generation of its spec.
pub(crate) async fn model_is_ready(namespace: &TestNamespace) -> anyhow::Result<()> {
    named_model_is_ready(namespace, "text2sql", SOON).await
}

/// The same of a model with another name, with more or less patience.
pub(crate) async fn named_model_is_ready(
    namespace: &TestNamespace,
    name: &str,
    within: Duration,
) -> anyhow::Result<()> {
    let models = namespace.api::<CllmModel>();
    let ready = eventually_object(&models, name, "the model to be Ready", within, |model: &CllmModel| {
        let status = model.status.as_ref()?;
        let ready = condition(&status.conditions, "Ready")?;
        (ready.status == "True" && ready.observed_generation == model.metadata.generation).then_some(())
    });
    Ok(ready.await?)
}

/// Waits until the model is degraded for this reason, and returns the message.
pub(crate) async fn degraded(namespace: &TestNamespace, name: &str, reason: &str) -> anyhow::Result<String> {
    named_model_is(namespace, name, &format!("to be degraded: {reason}"), |status| {
        let degraded = condition(&status.conditions, "Degraded")?;
        (degraded.status == "True" && degraded.reason == reason).then(|| degraded.message.clone())
    })
    .await
}

/// The Pods of a model that are not about to go.
pub(crate) async fn replicas(namespace: &TestNamespace, model: &str) -> Result<Vec<Pod>, String> {
    let selector = ListParams::default().labels(&format!("cllm.dev/model={model}"));
    let pods = namespace.api::<Pod>().list(&selector).await.map_err(|error| error.to_string())?;
    Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

/// Waits until a condition of the training has that status, and returns it.
pub(crate) async fn training_condition(
    namespace: &TestNamespace,
    type_: &str,
    status: &str,
    within: Duration,
) -> anyhow::Result<Condition> {
    let trainings = namespace.api::<CllmTraining>();
    let what = format!("the training's {type_} to be {status}");
    let found = eventually_object(&trainings, "text2sql", &what, within, |training: &CllmTraining| {
        let conditions = &training.status.as_ref()?.conditions;
        condition(conditions, type_).filter(|found| found.status == status).cloned()
    });
    Ok(found.await?)
}

/// Waits until a training has failed, and returns the condition that says why.
pub(crate) async fn failed(namespace: &TestNamespace) -> anyhow::Result<Condition> {
    training_condition(namespace, "Failed", "True", TRAINED_WITHIN).await
}

/// Waits until a training is degraded, and returns the condition that says why.
pub(crate) async fn training_is_degraded(namespace: &TestNamespace) -> anyhow::Result<Condition> {
    training_condition(namespace, "Degraded", "True", SOON).await
}

/// The URL of a model's Service, as Pods and nodes reach it.
pub(crate) async fn service_url(namespace: &TestNamespace) -> anyhow::Result<String> {
    let service = namespace.api::<Service>().get("text2sql").await?;
    Ok(format!("http://{}", service.spec.and_then(|spec| spec.cluster_ip).context("no cluster IP")?))
}

/// Writes a Secret or `ConfigMap` (`stringData` or `data`), whatever was there before.
pub(crate) async fn write_keys(namespace: &TestNamespace, kind: &str, name: &str, keys: Value) -> anyhow::Result<()> {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: keys,
    }))?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let objects = kube::Api::<DynamicObject>::namespaced_with(namespace.client(), namespace.name(), &resource);
    // Gone first, so that no earlier key stays.
    drop(objects.delete(name, &DeleteParams::default()).await);
    objects.create(&PostParams::default(), &object).await?;
    Ok(())
}
