//! What the tests share: the cluster with the CRDs, an operator that counts its writes, resources, and the work of a kubelet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use cllm_crds::{CllmModel, CllmTraining};
use cllm_operator::Images;
use cllm_operator::controller::{LeaderElection, Listeners, Settings, run};
use cllm_operator::https::HttpsSettings;
pub(crate) use cllm_tests::product::repository;
use cllm_tests::{ControlPlane, TestNamespace, eventually, eventually_object};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The shared cluster with the committed CRDs.
pub(crate) async fn cluster() -> anyhow::Result<&'static ControlPlane> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let cluster = ControlPlane::shared().await?;
    INSTALLED.get_or_try_init(|| install(cluster)).await?;
    Ok(cluster)
}

pub(crate) async fn install(cluster: &ControlPlane) -> anyhow::Result<()> {
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

/// An operator for one namespace that counts what it writes.
pub(crate) struct Operator {
    writes: Arc<AtomicUsize>,
    metrics: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    pub(crate) async fn start(cluster: &ControlPlane, namespace: &TestNamespace) -> anyhow::Result<Self> {
        Self::start_with(cluster.client()?, namespace, None).await
    }

    /// With that client.
    pub(crate) async fn start_with(
        client: Client,
        namespace: &TestNamespace,
        leader_election: Option<LeaderElection>,
    ) -> anyhow::Result<Self> {
        Self::start_serving(client, namespace, leader_election, None).await
    }

    /// One that serves something over HTTPS.
    pub(crate) async fn start_serving(
        client: Client,
        namespace: &TestNamespace,
        leader_election: Option<LeaderElection>,
        https: Option<(HttpsSettings, TcpListener)>,
    ) -> anyhow::Result<Self> {
        let writes = Arc::new(AtomicUsize::new(0));
        let (https, https_listener) = https.unzip();
        let pages = TcpListener::bind("127.0.0.1:0").await?;
        let metrics = format!("http://{}", pages.local_addr()?);
        let stop = CancellationToken::new();
        let settings = Settings {
            client: counting_client(client, writes.clone()),
            namespace: Some(namespace.name().to_owned()),
            images: Images::of_version("registry.example/", "test"),
            leader_election,
            https,
        };
        let task = tokio::spawn(run(settings, Listeners { pages, https: https_listener }, stop.clone()));
        let operator = Self { writes, metrics, stop, task };
        eventually("the operator to be ready", SOON, async || operator.page("readyz").await).await?;
        Ok(operator)
    }

    pub(crate) async fn page(&self, path: &str) -> Result<String, String> {
        let answer =
            reqwest::get(format!("{}/{path}", self.metrics)).await.and_then(reqwest::Response::error_for_status);
        answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// How often both kinds were reconciled.
    pub(crate) async fn reconciliations(&self) -> Result<u64, String> {
        let page = self.page("metrics").await?;
        let counts = page.lines().filter(|line| line.starts_with("cllm_operator_reconciliations_total{"));
        Ok(counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    /// Whether it acts.
    pub(crate) async fn leads(&self) -> Result<bool, String> {
        Ok(self.page("metrics").await?.lines().any(|line| line == "cllm_operator_leader 1"))
    }

    /// As SIGKILL: whatever it was doing is not finished.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// How it ends by itself.
    pub(crate) async fn ends(self) -> anyhow::Result<()> {
        tokio::time::timeout(SOON, self.task).await.context("the operator goes on")??
    }

    /// As SIGTERM, without waiting for its end.
    pub(crate) fn tell_to_end(&self) {
        self.stop.cancel();
    }

    /// As SIGTERM.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.tell_to_end();
        self.ends().await
    }
}

/// A client that counts the requests that change something.
fn counting_client(client: Client, writes: Arc<AtomicUsize>) -> Client {
    before_each_request(client, move |request| {
        if request.method != http::Method::GET {
            writes.fetch_add(1, Ordering::SeqCst);
        }
        std::future::ready(())
    })
}

/// A client that does something before each request.
pub(crate) fn before_each_request<F>(
    client: Client,
    act: impl Fn(&http::request::Parts) -> F + Send + 'static,
) -> Client
where
    F: Future<Output = ()> + Send + 'static,
{
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (parts, body) = request.into_parts();
        let (before, client) = (act(&parts), client.clone());
        async move {
            before.await;
            client.send(http::Request::from_parts(parts, body)).await
        }
    });
    Client::new(service, namespace)
}

pub(crate) fn training_resource() -> anyhow::Result<CllmTraining> {
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

pub(crate) fn model_resource(source: &Value) -> anyhow::Result<CllmModel> {
    let value = json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": "text2sql"}, "spec": {"model": source},
    });
    Ok(serde_json::from_value(value)?)
}

pub(crate) async fn create<K>(namespace: &TestNamespace, resource: &K) -> anyhow::Result<K>
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
pub(crate) async fn exists<K>(namespace: &TestNamespace, name: &str, but: Option<&str>) -> anyhow::Result<String>
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

/// Marks the replicas ready, as a kubelet would, until the model says so.
pub(crate) async fn play_kubelet_until_ready(namespace: &TestNamespace) -> anyhow::Result<()> {
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

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The operator looks again and again, and writes nothing.
pub(crate) async fn rests(operator: &Operator, poke: impl AsyncFn(u64) -> kube::Result<()>) -> anyhow::Result<()> {
    // What it had to do is done when it reconciles ten times in a row without a write. Others may still give it reason for one:
    // the autoscaler changes its mind about what it misses.
    let turn = AtomicUsize::new(0);
    eventually("ten reconciliations without a write", SOON, async || {
        let writes = operator.writes();
        for _ in 0..10 {
            look_again(operator, &poke, &turn).await?;
        }
        if operator.writes() == writes { Ok(()) } else { Err(format!("{} writes", operator.writes() - writes)) }
    })
    .await?;
    Ok(())
}

/// Makes the operator reconcile once more, and waits until it did.
pub(crate) async fn look_again(
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

/// Ends the Pods of a stage well, as a kubelet would, with these last words.
pub(crate) async fn finish_pods(
    namespace: &TestNamespace,
    stage: &str,
    count: usize,
    words: &Value,
) -> anyhow::Result<()> {
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

/// Waits until a condition of a model or training has that status and reason, and answers its message.
pub(crate) async fn condition<K>(
    namespace: &TestNamespace,
    type_: &str,
    status: &str,
    reason: &str,
) -> anyhow::Result<String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let what = format!("{type_}={status}/{reason}");
    let api = namespace.api::<K>();
    let found = eventually_object(&api, "text2sql", &what, SOON, |resource| {
        let value = json!(resource);
        let conditions = value["status"]["conditions"].as_array()?;
        let is = |condition: &&Value| {
            condition["type"] == type_ && condition["status"] == status && condition["reason"] == reason
        };
        conditions.iter().find(is).and_then(|condition| condition["message"].as_str().map(str::to_owned))
    });
    Ok(found.await?)
}

/// The last words of an evaluation that passes its gates.
pub(crate) fn evaluated() -> Value {
    json!({
        "stage": "Evaluating",
        "speedup": {
            "overTarget": "2.10", "overTargetWithLookup": "1.90", "overOwnAutoregressive": "2.10", "overTargetEndToEnd": "2.00",
            "tokensPerForwardBefore": "1.00", "tokensPerForward": "3.10", "bestBlockSize": 16, "hardware": "test",
        },
        "quality": {"metric": "ExactMatch", "target": "90.0", "cllm": "89.5", "drop": "0.5"},
        "output": {"uri": "pvc://models/text2sql/abc", "digest": "sha256:abc", "sizeBytes": 7},
    })
}

/// The first Pod, once there is one.
pub(crate) async fn pod(namespace: &TestNamespace) -> anyhow::Result<String> {
    let pods = namespace.api::<Pod>();
    let found = eventually("a Pod", SOON, async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        list.iter().next().map(ResourceExt::name_any).ok_or_else(|| "none".to_owned())
    });
    Ok(found.await?)
}

pub(crate) fn waiting(container: &str, reason: &str, message: &str) -> Value {
    json!({"status": {"phase": "Pending", "containerStatuses": [{
        "name": container, "image": "registry.example/cllm-server:test", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]}})
}

/// Gives a Pod a node that cannot mount its volumes, and says so in an Event, as scheduler and kubelet would.
pub(crate) async fn hang_on_mount(namespace: &TestNamespace, name: &str) -> anyhow::Result<()> {
    let pods = namespace.api::<Pod>();
    let node = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}});
    let request = http::Request::post(format!("/api/v1/namespaces/{}/pods/{name}/binding", namespace.name()));
    namespace.client().request_text(request.body(node.to_string().into_bytes())?).await?;
    let mut status = waiting("trainer", "ContainerCreating", "");
    status["status"]["conditions"] =
        json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let pod = pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "mount-", "namespace": namespace.name()},
        "type": "Warning", "reason": "FailedMount", "message": "MountVolume.SetUp failed for volume \"x\" : timed out",
        "involvedObject": {"kind": "Pod", "namespace": namespace.name(), "name": name, "uid": pod.uid()},
        "firstTimestamp": "2026-01-01T00:00:10Z", "lastTimestamp": "2026-01-01T00:00:10Z",
    });
    let event: k8s_openapi::api::core::v1::Event = serde_json::from_value(event)?;
    create(namespace, &event).await.map(|_| ())
}
