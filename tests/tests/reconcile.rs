//! The operator on a real control plane: what it renders is accepted, what is deleted comes back, a training runs to its end, and at rest
//! nothing is written. There is no kubelet: the tests write the status of Pods as one would.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining, TrainingStage};
use cllm_operator::Images;
use cllm_operator::controller::{Settings, run};
use cllm_operator::model::{self, Resolution, ResolvedModel};
use cllm_operator::training;
use cllm_tests::{ControlPlane, TestNamespace, eventually, eventually_object};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(60);

/// The shared cluster with the committed CRDs.
async fn cluster() -> anyhow::Result<&'static ControlPlane> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let cluster = ControlPlane::shared().await?;
    INSTALLED.get_or_try_init(|| install(cluster)).await?;
    Ok(cluster)
}

async fn install(cluster: &ControlPlane) -> anyhow::Result<()> {
    for name in ["cllmmodels", "cllmtrainings"] {
        let file = repository().join(format!("crds/{name}.yaml"));
        cluster.kubectl(&["apply", "--server-side", "-f", &file.to_string_lossy()]).await?;
    }
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client()?);
    for name in ["cllmmodels.cllm.dev", "cllmtrainings.cllm.dev"] {
        eventually_object(&definitions, name, "the CRD to be established", SOON, |definition| {
            let conditions = definition.status.as_ref()?.conditions.as_ref()?;
            conditions
                .iter()
                .find(|condition| condition.type_ == "Established" && condition.status == "True")
                .map(|_| ())
        })
        .await?;
    }
    Ok(())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An operator for one namespace that counts what it writes.
struct Operator {
    writes: Arc<AtomicUsize>,
    metrics: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    async fn start(cluster: &ControlPlane, namespace: &TestNamespace) -> anyhow::Result<Self> {
        let writes = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let metrics = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let settings = Settings {
            client: counting_client(cluster, writes.clone())?,
            namespace: Some(namespace.name().to_owned()),
            images: Images::of_version("registry.example/", "test"),
        };
        let task = tokio::spawn(run(settings, listener, stop.clone()));
        let operator = Self { writes, metrics, stop, task };
        eventually("the operator to be ready", SOON, async || operator.page("readyz").await).await?;
        Ok(operator)
    }

    async fn page(&self, path: &str) -> Result<String, String> {
        let answer =
            reqwest::get(format!("{}/{path}", self.metrics)).await.and_then(reqwest::Response::error_for_status);
        answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
    }

    fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// How often both kinds were reconciled.
    async fn reconciliations(&self) -> Result<u64, String> {
        let page = self.page("metrics").await?;
        let counts = page.lines().filter(|line| line.starts_with("cllm_operator_reconciliations_total{"));
        Ok(counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.task.await?
    }
}

/// A client that counts the requests that change something.
fn counting_client(cluster: &ControlPlane, writes: Arc<AtomicUsize>) -> anyhow::Result<Client> {
    let count = move |request: http::Request<Body>| {
        if request.method() != http::Method::GET {
            writes.fetch_add(1, Ordering::SeqCst);
        }
        request
    };
    let builder = ClientBuilder::try_from(cluster.config().clone())?;
    Ok(builder.with_layer(&tower::util::MapRequestLayer::new(count)).build())
}

fn training_resource() -> anyhow::Result<CllmTraining> {
    let value = json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmTraining", "metadata": {"name": "text2sql"},
        "spec": {
            "model": {"uri": "pvc://models/target"},
            "dataset": {"uri": "pvc://data/train.jsonl", "testUri": "pvc://data/test.jsonl"},
            "trajectories": {"shards": 2, "parallelism": 2},
            "evaluation": {"minSpeedup": "1.3"},
            "output": {"uri": "pvc://models/text2sql"},
        },
    });
    Ok(serde_json::from_value(value)?)
}

fn model_resource(source: &Value) -> anyhow::Result<CllmModel> {
    let value = json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": "text2sql"}, "spec": {"model": source},
    });
    Ok(serde_json::from_value(value)?)
}

async fn create<K>(namespace: &TestNamespace, resource: &K) -> anyhow::Result<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    Ok(namespace.api::<K>().create(&PostParams::default(), resource).await?)
}

/// Waits until the object exists with another uid than that one, and answers its uid.
async fn exists<K>(namespace: &TestNamespace, name: &str, but: Option<&str>) -> anyhow::Result<String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let other = |object: &K| object.uid().filter(|uid| Some(uid.as_str()) != but);
    Ok(eventually_object(&namespace.api::<K>(), name, &format!("{name} to exist"), SOON, other).await?)
}

/// Every resource of the examples, and those that exercise every field.
fn resources() -> anyhow::Result<Vec<(PathBuf, Value)>> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join("examples"), repository().join("operator/tests/fixtures")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path)?;
                let documents: Vec<Value> =
                    serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
                let ours = documents.into_iter().filter(|document| document["apiVersion"] == "cllm.dev/v1alpha1");
                found.extend(ours.map(|document| (path.clone(), document)));
            }
        }
    }
    Ok(found)
}

fn rendered(resource: &Value) -> anyhow::Result<Vec<Value>> {
    let images = Images::of_version("registry.example/", "test");
    if resource["kind"] == "CllmTraining" {
        let valid = training::validate(&serde_json::from_value(resource.clone())?, &images)?;
        return Ok(training::render(&valid).objects());
    }
    let valid = model::validate(&serde_json::from_value(resource.clone())?, &images)?;
    let checkpoint = match model::resolve(&valid, &[]) {
        Resolution::Resolved(checkpoint) => checkpoint,
        Resolution::Waiting { .. } => ResolvedModel::new("pvc://models/text2sql/abc", Some("sha256:abc".to_owned()))?,
    };
    Ok(model::render(&valid, &checkpoint).objects())
}

#[tokio::test]
async fn everything_rendered_is_accepted_without_a_warning_where_restricted_is_enforced() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "render").await?;
    let mut checked = 0;
    for (path, resource) in resources()? {
        let mut objects = rendered(&resource).with_context(|| path.display().to_string())?;
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(namespace.name());
        }
        let manifest = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let arguments = ["apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-"];
        let output =
            cluster.kubectl_with_input(&arguments, &manifest).await.with_context(|| path.display().to_string())?;
        ensure!(output.stderr.is_empty(), "{}: {}", path.display(), output.stderr);
        ensure!(output.stdout.lines().count() == objects.len(), "{}", output.stdout);
        checked += objects.len();
    }
    ensure!(checked > 40, "only {checked} objects were rendered");
    Ok(())
}

#[tokio::test]
async fn a_model_gets_its_objects_loses_none_and_at_rest_nothing_is_written() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "model").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = model_resource(&json!({"uri": "pvc://models/text2sql"}))?;
    // What the API server writes in another form than it was declared, or fills up with defaults.
    resource.spec.pod.resources = serde_json::from_value(
        json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1024Mi"}}),
    )?;
    resource.spec.pod.tolerations = serde_json::from_value(json!([{"key": "serving", "operator": "Exists"}]))?;
    resource.spec.network_policy = serde_json::from_value(json!({"ingressFrom": [{"podSelector": {}}]}))?;
    resource.spec.autoscaling = serde_json::from_value(
        json!({"minReplicas": 1, "maxReplicas": 4, "targetQueuedRequests": 4, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}),
    )?;
    create(&namespace, &resource).await?;

    let deployment = exists::<Deployment>(&namespace, "text2sql-model", None).await?;
    let service = exists::<Service>(&namespace, "text2sql", None).await?;
    exists::<NetworkPolicy>(&namespace, "text2sql-model", None).await?;
    exists::<PodDisruptionBudget>(&namespace, "text2sql-model", None).await?;
    let models = namespace.api::<CllmModel>();
    eventually_object(&models, "text2sql", "the replica to exist", SOON, |model| {
        let status = model.status.as_ref()?;
        let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
        let is_progressing = condition("Ready")?.status == "False" && condition("Reconciling")?.status == "True";
        (is_progressing && status.replicas == 1 && status.model.as_ref()?.image == "registry.example/cllm-server:test")
            .then_some(())
    })
    .await?;

    namespace.api::<Service>().delete("text2sql", &DeleteParams::default()).await?;
    exists::<Service>(&namespace, "text2sql", Some(&service)).await?;
    namespace.api::<Deployment>().delete("text2sql-model", &DeleteParams::foreground()).await?;
    exists::<Deployment>(&namespace, "text2sql-model", Some(&deployment)).await?;
    let changed = json!({"spec": {"replicas": 7}});
    namespace.api::<Deployment>().patch("text2sql-model", &PatchParams::default(), &Patch::Merge(changed)).await?;
    let replicas = |deployment: &Deployment| deployment.spec.as_ref()?.replicas.filter(|replicas| *replicas == 1);
    eventually_object(&namespace.api::<Deployment>(), "text2sql-model", "one replica again", SOON, replicas).await?;

    play_kubelet_until_ready(&namespace).await?;
    rests(&operator, async |turn| {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        models.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
    })
    .await?;
    operator.stop().await
}

/// Marks the replicas ready, as a kubelet would, until the model says so.
async fn play_kubelet_until_ready(namespace: &TestNamespace) -> anyhow::Result<()> {
    let (pods, models) = (namespace.api::<Pod>(), namespace.api::<CllmModel>());
    let ready = json!({"status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
    }});
    eventually("the model to be ready", SOON, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        for pod in list.iter().filter(|pod| phase(pod) == "Pending" && pod.metadata.deletion_timestamp.is_none()) {
            let patched = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&ready)).await;
            patched.map_err(|error| error.to_string())?;
        }
        let status = models.get("text2sql").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let is_ready =
            status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if is_ready { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await?;
    Ok(())
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The operator looks again and again, and writes nothing.
async fn rests(operator: &Operator, poke: impl AsyncFn(u64) -> kube::Result<()>) -> anyhow::Result<()> {
    // What it had to do is done when it reconciled five times in a row without a write.
    let turn = AtomicUsize::new(0);
    let calm = eventually("five reconciliations without a write", SOON, async || {
        let writes = operator.writes();
        for _ in 0..5 {
            look_again(operator, &poke, &turn).await?;
        }
        if operator.writes() == writes { Ok(writes) } else { Err(format!("{} writes", operator.writes())) }
    });
    let writes = calm.await?;
    for _ in 0..5 {
        look_again(operator, &poke, &turn).await.map_err(anyhow::Error::msg)?;
    }
    ensure!(operator.writes() == writes, "{} writes at rest", operator.writes() - writes);
    Ok(())
}

/// Makes the operator reconcile once more, and waits until it did.
async fn look_again(
    operator: &Operator,
    poke: impl AsyncFn(u64) -> kube::Result<()>,
    turn: &AtomicUsize,
) -> Result<(), String> {
    let before = operator.reconciliations().await?;
    poke(turn.fetch_add(1, Ordering::SeqCst) as u64).await.map_err(|error| error.to_string())?;
    let done = eventually("another reconciliation", SOON, async || match operator.reconciliations().await? {
        count if count > before => Ok(()),
        count => Err(format!("{count} reconciliations")),
    });
    done.await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_autoscaler_comes_scales_the_model_and_goes() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "autoscaling").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    exists::<Deployment>(&namespace, "text2sql-model", None).await?;
    let models = namespace.api::<CllmModel>();

    let autoscaling =
        json!({"spec": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetTokensPerSecond": 100}}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(autoscaling)).await?;
    exists::<HorizontalPodAutoscaler>(&namespace, "text2sql-model", None).await?;
    let has = |wanted: i32| {
        move |deployment: &Deployment| deployment.spec.as_ref()?.replicas.filter(|replicas| *replicas == wanted)
    };
    let deployments = namespace.api::<Deployment>();
    eventually_object(&deployments, "text2sql-model", "the fewest replicas", SOON, has(2)).await?;

    // As the autoscaler would.
    let scale = json!({"spec": {"replicas": 3}});
    models.patch_scale("text2sql", &PatchParams::default(), &Patch::Merge(scale)).await?;
    eventually_object(&deployments, "text2sql-model", "what the scale subresource says", SOON, has(3)).await?;
    // It finds the replicas through the scale subresource, and has no metrics without an adapter.
    eventually_object(&models, "text2sql", "the autoscaler to complain", SOON, |model| {
        let conditions = &model.status.as_ref()?.conditions;
        conditions
            .iter()
            .find(|condition| condition.type_ == "ScalingActive" && condition.reason == "MetricsUnavailable")
            .map(|_| ())
    })
    .await?;

    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(json!({"spec": {"autoscaling": null}}))).await?;
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    eventually("the autoscaler to be gone", SOON, async || match autoscalers.get_opt("text2sql-model").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    operator.stop().await
}

#[tokio::test]
async fn a_training_runs_to_its_end_and_its_result_is_served() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "training").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"trainingRef": {"name": "text2sql"}}))?).await?;
    create(&namespace, &training_resource()?).await?;
    exists::<PersistentVolumeClaim>(&namespace, "text2sql-training-workspace", None).await?;
    let policy = exists::<NetworkPolicy>(&namespace, "text2sql-training", None).await?;
    namespace.api::<NetworkPolicy>().delete("text2sql-training", &DeleteParams::default()).await?;
    exists::<NetworkPolicy>(&namespace, "text2sql-training", Some(&policy)).await?;

    let shard = json!({"stage": "Collecting", "trajectories": {
        "examples": 5, "blocks": 10, "states": 50, "tokens": 100, "dropped": 0, "tokensPerForward": "1.0",
    }});
    let result = json!({
        "stage": "Evaluating",
        "speedup": {
            "overTarget": "2.10", "overTargetWithLookup": "1.90", "overOwnAutoregressive": "2.10", "overTargetEndToEnd": "2.00",
            "tokensPerForwardBefore": "1.00", "tokensPerForward": "3.10", "bestBlockSize": 16, "hardware": "test",
        },
        "quality": {"metric": "ExactMatch", "target": "90.0", "cllm": "89.5", "drop": "0.5"},
        "output": {"uri": "pvc://models/text2sql/abc", "digest": "sha256:abc", "sizeBytes": 7},
    });
    for (stage, pods, words) in
        [("collect", 2, &shard), ("train", 1, &json!({"stage": "Training"})), ("evaluate", 1, &result)]
    {
        finish_pods(&namespace, stage, pods, words).await.with_context(|| stage.to_owned())?;
    }

    let trainings = namespace.api::<CllmTraining>();
    let status = eventually_object(&trainings, "text2sql", "the training to succeed", SOON, |training| {
        training.status.clone().filter(|status| status.stage == Some(TrainingStage::Succeeded))
    })
    .await?;
    ensure!(status.trajectories.context("no trajectories")?.examples == 10);
    ensure!(status.speedup.context("no speed-up")?.over_target == "2.10");
    ensure!(status.jobs.iter().map(|job| job.succeeded).collect::<Vec<_>>() == [2, 1, 1], "{:?}", status.jobs);
    ensure!(status.image.as_deref() == Some("registry.example/cllm-trainer:test"));
    eventually_object(
        &namespace.api::<Deployment>(),
        "text2sql-model",
        "the result to be served",
        SOON,
        |deployment| {
            let template = &deployment.spec.as_ref()?.template;
            let arguments = template.spec.as_ref()?.containers.first()?.args.as_ref()?;
            arguments.contains(&"--model=/claims/models/text2sql/abc".to_owned()).then_some(())
        },
    )
    .await?;

    // Terminal trainings stay terminal.
    for job in namespace.api::<Job>().list(&ListParams::default()).await? {
        namespace.api::<Job>().delete(&job.name_any(), &DeleteParams::background()).await?;
    }
    rests(&operator, async |turn| {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        trainings.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
    })
    .await?;
    let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
    ensure!(jobs.iter().all(|job| job.metadata.deletion_timestamp.is_some()), "{jobs:?}");
    operator.stop().await
}

/// Ends the Pods of a stage well, as a kubelet would, with these last words.
async fn finish_pods(namespace: &TestNamespace, stage: &str, count: usize, words: &Value) -> anyhow::Result<()> {
    let pods = namespace.api::<Pod>();
    let selector = ListParams::default().labels(&format!("cllm.dev/stage={stage}"));
    let names = eventually(&format!("{count} Pods of stage {stage}"), SOON, async || {
        let list = pods.list(&selector).await.map_err(|error| error.to_string())?;
        if list.items.len() == count {
            Ok(list.iter().map(ResourceExt::name_any).collect::<Vec<_>>())
        } else {
            Err(list.items.len().to_string())
        }
    })
    .await?;
    let now = "2026-01-01T00:00:00Z";
    let terminated = json!({"exitCode": 0, "reason": "Completed", "message": words.to_string(), "startedAt": now, "finishedAt": now});
    let ended = json!({"status": {
        "phase": "Succeeded",
        "containerStatuses": [{
            "name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated},
        }],
    }});
    for name in names {
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&ended)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_pod_ends_the_training_with_its_words_and_a_suspended_one_waits() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "failure").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = training_resource()?;
    resource.spec.suspend = true;
    resource.spec.backoff_limit = 0;
    resource.spec.trajectories.shards = 1;
    create(&namespace, &resource).await?;
    let trainings = namespace.api::<CllmTraining>();
    eventually_object(&trainings, "text2sql", "the training to be suspended", SOON, |training| {
        let conditions = &training.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == "Suspended" && condition.status == "True").map(|_| ())
    })
    .await?;
    ensure!(namespace.api::<Job>().list(&ListParams::default()).await?.items.is_empty());
    let resume = json!({"spec": {"suspend": false}});
    trainings.patch("text2sql", &PatchParams::default(), &Patch::Merge(resume)).await?;

    let pods = namespace.api::<Pod>();
    let name = eventually("a Pod", SOON, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        list.iter().next().map(ResourceExt::name_any).ok_or("none").map_err(str::to_owned)
    })
    .await?;
    let words = json!({"stage": "Collecting", "error": "line 3 of /claims/data/train.jsonl is not JSON: correct it"})
        .to_string();
    let now = "2026-01-01T00:00:00Z";
    let terminated = json!({"exitCode": 2, "reason": "Error", "message": words, "startedAt": now, "finishedAt": now});
    let failed = json!({"status": {
        "phase": "Failed",
        "containerStatuses": [{
            "name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated},
        }],
    }});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&failed)).await?;
    let message = eventually_object(&trainings, "text2sql", "the training to fail", SOON, |training| {
        let conditions = &training.status.as_ref()?.conditions;
        conditions
            .iter()
            .find(|condition| condition.type_ == "Failed" && condition.status == "True")
            .map(|failed| failed.message.clone())
    })
    .await?;
    ensure!(message == "Collecting failed: line 3 of /claims/data/train.jsonl is not JSON: correct it", "{message}");
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
                .find(|condition| condition.type_ == "Stalled" && condition.reason == "NameTaken")
                .map(|stalled| stalled.message.clone())
        })
        .await?;
    ensure!(message.contains("Service text2sql exists and does not belong to this resource"), "{message}");
    ensure!(namespace.api::<Service>().get("text2sql").await?.spec == theirs.spec);
    operator.stop().await
}

/// A training that has ended well with a result of that name.
async fn create_complete(namespace: &TestNamespace, name: &str, completed: &str) -> anyhow::Result<()> {
    let mut training = training_resource()?;
    training.metadata.name = Some(name.to_owned());
    training.metadata.labels = Some([("task".to_owned(), "sql".to_owned())].into());
    create(namespace, &training).await?;
    let complete = json!({
        "type": "Complete", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": completed,
    });
    let status = json!({"status": {
        "stage": "Succeeded", "completionTime": completed, "conditions": [complete],
        "output": {"uri": format!("pvc://models/text2sql/{name}"), "digest": format!("sha256:{name}"), "sizeBytes": 7},
    }});
    let api = namespace.api::<CllmTraining>();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

async fn serves(namespace: &TestNamespace, name: &str) -> anyhow::Result<()> {
    let deployments = namespace.api::<Deployment>();
    let wanted = format!("--model=/claims/models/text2sql/{name}");
    let arguments = |deployment: &Deployment| {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        pod.containers.first()?.args.as_ref()?.contains(&wanted).then_some(())
    };
    eventually_object(&deployments, "text2sql-model", &format!("{name} to be served"), SOON, arguments).await?;
    Ok(())
}

/// The server of that checkpoint refuses it, and the kubelet tells its last words.
async fn refuse(namespace: &TestNamespace, name: &str) -> anyhow::Result<()> {
    let pods = namespace.api::<Pod>();
    let digest = format!("sha256:{name}");
    let pod = eventually("a Pod with the new checkpoint", SOON, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let found = list.iter().find(|pod| pod.annotations().get("cllm.dev/model-digest") == Some(&digest));
        found.map(ResourceExt::name_any).ok_or_else(|| format!("{} Pods without it", list.items.len()))
    })
    .await?;
    let now = "2026-01-01T00:00:00Z";
    let message = "INFO listening\nerror: the model cannot be loaded: it has another digest.\n";
    let terminated = json!({"exitCode": 2, "reason": "Error", "message": message, "startedAt": now, "finishedAt": now});
    let status = json!({"status": {
        "phase": "Running",
        "containerStatuses": [{
            "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": terminated},
        }],
    }});
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

#[tokio::test]
async fn a_result_that_is_refused_is_gone_back_from_also_by_the_next_operator() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "promotion").await?;
    create_complete(&namespace, "first", "2026-01-01T00:00:01Z").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let source = json!({"trainingRef": {"selector": {"matchLabels": {"task": "sql"}}}});
    create(&namespace, &model_resource(&source)?).await?;
    serves(&namespace, "first").await?;
    play_kubelet_until_ready(&namespace).await?;
    operator.stop().await?;

    create_complete(&namespace, "second", "2026-01-01T00:00:02Z").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    serves(&namespace, "second").await?;
    refuse(&namespace, "second").await?;
    serves(&namespace, "first").await?;
    operator.stop().await?;

    let operator = Operator::start(cluster, &namespace).await?;
    let models = namespace.api::<CllmModel>();
    let message = eventually_object(&models, "text2sql", "the model to be degraded and ready", SOON, |model| {
        let status = model.status.as_ref()?;
        let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
        let degraded = condition("Degraded").filter(|degraded| degraded.status == "True")?;
        let is_known = status.model.as_ref()?.rejected_digest.as_deref() == Some("sha256:second");
        (is_known && condition("Ready")?.status == "True").then(|| degraded.message.clone())
    })
    .await?;
    ensure!(
        message.contains("A replica refuses sha256:second: the model cannot be loaded: it has another digest.")
            && message.contains("sha256:first is served instead"),
        "{message}"
    );
    rests(&operator, async |turn| {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        models.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
    })
    .await?;
    serves(&namespace, "first").await?;
    operator.stop().await
}

#[tokio::test]
async fn replicas_that_somebody_leaves_out_stay_with_an_autoscaler_and_a_pause_changes_nothing() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "held").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = model_resource(&json!({"uri": "pvc://models/text2sql"}))?;
    resource.spec.autoscaling =
        serde_json::from_value(json!({"minReplicas": 1, "maxReplicas": 8, "targetTokensPerSecond": 100}))?;
    create(&namespace, &resource).await?;
    exists::<HorizontalPodAutoscaler>(&namespace, "text2sql-model", None).await?;
    let (models, deployments) = (namespace.api::<CllmModel>(), namespace.api::<Deployment>());
    let scale = json!({"spec": {"replicas": 6}});
    models.patch_scale("text2sql", &PatchParams::default(), &Patch::Merge(scale)).await?;
    let has = |wanted: i32| {
        move |deployment: &Deployment| deployment.spec.as_ref()?.replicas.filter(|replicas| *replicas == wanted)
    };
    eventually_object(&deployments, "text2sql-model", "six replicas", SOON, has(6)).await?;
    // As the autoscaler tells it: without metrics it has no word of its own.
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    let told = json!({"status": {"desiredReplicas": 6, "currentReplicas": 6}});
    autoscalers.patch_status("text2sql-model", &PatchParams::default(), &Patch::Merge(told)).await?;

    let left_out = json!({"spec": {"replicas": null}});
    let written = models.patch("text2sql", &PatchParams::default(), &Patch::Merge(left_out)).await?;
    ensure!(written.spec.replicas == 1, "{}", written.spec.replicas);
    let turn = AtomicUsize::new(0);
    for _ in 0..3 {
        let looked = look_again(
            &operator,
            async |turn| {
                let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
                models.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
            },
            &turn,
        );
        looked.await.map_err(anyhow::Error::msg)?;
        let now = deployments.get("text2sql-model").await?.spec.and_then(|spec| spec.replicas);
        ensure!(now == Some(6), "{now:?}");
    }

    let paused = json!({"spec": {"paused": true, "autoscaling": null, "replicas": 2}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(paused)).await?;
    eventually_object(&models, "text2sql", "the model to be paused", SOON, |model| {
        let conditions = &model.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == "Reconciling" && condition.reason == "Paused").map(|_| ())
    })
    .await?;
    ensure!(deployments.get("text2sql-model").await?.spec.and_then(|spec| spec.replicas) == Some(6));
    let goes_on = json!({"spec": {"paused": false}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(goes_on)).await?;
    eventually_object(&deployments, "text2sql-model", "two replicas", SOON, has(2)).await?;
    operator.stop().await
}
