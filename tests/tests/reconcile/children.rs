//! Children that people change, delete or take away, and objects of others that have the name of a child.

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::support::{Operator, SOON, cluster, condition, create, model_resource, training_resource};

/// The kinds of children with a field that is rendered, and a wrong value for it.
const CHILDREN: [(&str, &str, &str, &str); 9] = [
    (
        "apps/v1",
        "Deployment",
        "text2sql-model",
        r#"{"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "theirs:1"}]}}}}"#,
    ),
    ("v1", "Service", "text2sql", r#"{"spec": {"ports": [{"port": 80, "name": "http", "targetPort": 4711}]}}"#),
    ("policy/v1", "PodDisruptionBudget", "text2sql-model", r#"{"spec": {"maxUnavailable": 7}}"#),
    (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "text2sql-model",
        r#"{"spec": {"podSelector": {"matchLabels": {"theirs": "yes"}}}}"#,
    ),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "text2sql-model", r#"{"spec": {"maxReplicas": 99}}"#),
    (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "text2sql-training",
        r#"{"spec": {"podSelector": {"matchLabels": {"theirs": "yes"}}}}"#,
    ),
    ("v1", "Service", "text2sql-training-workers", r#"{"spec": {"publishNotReadyAddresses": false}}"#),
    (
        "v1",
        "PersistentVolumeClaim",
        "text2sql-training-workspace",
        r#"{"metadata": {"labels": {"app.kubernetes.io/name": "theirs"}}}"#,
    ),
    (
        "batch/v1",
        "Job",
        "text2sql-collect",
        r#"{"spec": {"suspend": true, "parallelism": 1, "activeDeadlineSeconds": 5000}}"#,
    ),
];

fn api(namespace: &TestNamespace, version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(namespace.client(), namespace.name(), &resource)
}

/// The child, by its name or the beginning of it (a Job's ends with a hash).
async fn child(api: &Api<DynamicObject>, name: &str) -> anyhow::Result<DynamicObject> {
    let what = format!("{name} to exist");
    let found = eventually(&what, SOON, async || {
        let list = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let is_hash = |rest: &str| rest.strip_prefix('-').is_some_and(|hash| !hash.contains('-'));
        let is = |object: &DynamicObject| {
            object.name_any().strip_prefix(name).is_some_and(|rest| rest.is_empty() || is_hash(rest))
        };
        list.items.into_iter().find(is).ok_or_else(|| "none".to_owned())
    });
    Ok(found.await?)
}

/// What we render: everything but what the API server and other controllers add over time.
fn declared(object: &DynamicObject) -> Value {
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    // A Job without any label gets those of its Pods from the API server, its own among them.
    labels.retain(|key, _| !key.contains("controller-uid") && !key.contains("job-name"));
    json!({
        "labels": labels,
        "owners": object.metadata.owner_references,
        "spec": object.data["spec"],
    })
}

async fn until_as_before(api: &Api<DynamicObject>, before: &DynamicObject, what: &str) -> anyhow::Result<()> {
    let (wanted, name) = (declared(before), before.name_any());
    let restored = eventually_object(api, &name, what, SOON, |live| {
        (declared(live) == wanted).then(|| live.uid() == before.uid())
    });
    ensure!(restored.await?, "{what}: it is another object now");
    Ok(())
}

#[tokio::test]
async fn children_that_are_edited_or_stripped_of_owner_or_labels_are_repaired() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "children").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut model = model_resource(&json!({"uri": "pvc://models/text2sql"}))?;
    model.spec.autoscaling =
        serde_json::from_value(json!({"minReplicas": 1, "maxReplicas": 4, "targetQueuedRequests": 4}))?;
    create(&namespace, &model).await?;
    let mut training = training_resource()?;
    training.spec.training.workers = 2;
    create(&namespace, &training).await?;
    for (version, kind, name, edit) in CHILDREN {
        let (api, what) = (api(&namespace, version, kind), |change: &str| format!("{kind} {name} {change}"));
        let before = child(&api, name).await?;
        let full_name = before.name_any();
        let edit: Value = serde_json::from_str(edit)?;
        let edit = match kind {
            // Lists are replaced as a whole by a merge patch.
            "Deployment" | "Service" => Patch::Strategic(edit),
            _ => Patch::Merge(edit),
        };
        api.patch(&full_name, &PatchParams::default(), &edit).await.with_context(|| what("edited"))?;
        until_as_before(&api, &before, &what("to be as declared after an edit")).await?;
        let stripped = json!({"metadata": {"ownerReferences": null}});
        api.patch(&full_name, &PatchParams::default(), &Patch::Merge(stripped)).await?;
        until_as_before(&api, &before, &what("to have its owner again")).await?;
        let unmarked = json!({"metadata": {"labels": null}});
        api.patch(&full_name, &PatchParams::default(), &Patch::Merge(unmarked)).await?;
        until_as_before(&api, &before, &what("to have its labels again")).await?;
    }
    operator.stop().await
}

#[tokio::test]
async fn a_job_that_lost_its_owner_while_no_operator_ran_is_not_made_twice() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "stripped").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &training_resource()?).await?;
    let api = api(&namespace, "batch/v1", "Job");
    let before = child(&api, "text2sql-collect").await?;
    operator.kill().await;
    let stripped = json!({"metadata": {"ownerReferences": null}});
    api.patch(&before.name_any(), &PatchParams::default(), &Patch::Merge(stripped)).await?;
    let operator = Operator::start(cluster, &namespace).await?;
    until_as_before(&api, &before, "the Job to have its owner again").await?;
    ensure!(api.list(&ListParams::default()).await?.items.len() == 1, "a second Job");
    operator.stop().await
}

#[tokio::test]
async fn a_job_of_someone_else_is_not_taken_for_a_stage() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "their-job").await?;
    // The name and the labels are known from a training that ran before.
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = training_resource()?;
    let training = create(&namespace, &resource).await?;
    let jobs = namespace.api::<Job>();
    let name = child(&api(&namespace, "batch/v1", "Job"), "text2sql-collect").await?.name_any();
    let ours = jobs.get(&name).await?;
    namespace.api::<CllmTraining>().delete("text2sql", &DeleteParams::foreground()).await?;
    eventually("the Job to be gone", SOON, async || match jobs.get_opt(&name).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let theirs: Job = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": ours.labels()},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "theirs:1"}]}}},
    }))?;
    jobs.create(&PostParams::default(), &theirs).await?;
    resource.metadata.labels = training.metadata.labels;
    create(&namespace, &resource).await?;
    let message = condition::<CllmTraining>(&namespace, "Stalled", "True", "NameConflict").await?;
    ensure!(message.contains(&format!("Job {name} exists and does not belong to this resource")), "{message}");
    // The Job controller writes its status; the operator writes nothing.
    let metadata = jobs.get(&name).await?.metadata;
    let mut managers = metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
    ensure!(managers.all(|manager| manager != "cllm-operator") && metadata.owner_references.is_none(), "{metadata:?}");
    operator.stop().await
}

#[tokio::test]
async fn an_object_of_someone_else_is_not_taken_over() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "taken").await?;
    let theirs: Service = serde_json::from_value(json!({
        "metadata": {"name": "text2sql"}, "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 1}]},
    }))?;
    let theirs = create(&namespace, &theirs).await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    let message =
        eventually_object(&namespace.api::<CllmModel>(), "text2sql", "the model to be stalled", SOON, |model| {
            let conditions = &model.status.as_ref()?.conditions;
            conditions
                .iter()
                .find(|condition| condition.type_ == "Stalled" && condition.reason == "NameConflict")
                .map(|stalled| stalled.message.clone())
        })
        .await?;
    ensure!(message.contains("Service text2sql exists and does not belong to this resource"), "{message}");
    ensure!(namespace.api::<Service>().get("text2sql").await?.spec == theirs.spec);
    operator.stop().await
}
