//! What the tests share: a control plane, an operator with exactly the rights that the chart gives it, pages of Pods, and clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cllm_operator::Images;
use cllm_operator::adapter::{API_SERVICE, Mode, ServiceAddress};
use cllm_operator::certificates::{Rules, Source, Stored};
use cllm_operator::controller::{Listeners, Settings, run};
use cllm_operator::https::{Closing, HttpsSettings};
use cllm_operator::rbac;
use cllm_tests::product::repository;
use cllm_tests::{ControlPlane, TestNamespace, eventually};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(60);
/// The name of everything that the chart would make.
pub(crate) const NAME: &str = "cllm-operator";
pub(crate) const SECRET: &str = "cllm-operator-certificates";
/// What owns the registration.
pub(crate) const OWNER: &str = "cllm-operator-metrics";
pub(crate) const ROOT: &str = "/apis/custom.metrics.k8s.io/v1beta2";

/// A control plane with the CRDs, while no other test has one.
pub(crate) struct Cluster {
    pub(crate) control_plane: ControlPlane,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        static TURN: AsyncMutex<()> = AsyncMutex::const_new(());
        let turn = TURN.lock().await;
        let control_plane = ControlPlane::start().await?;
        for name in ["cllmmodels", "cllmtrainings"] {
            let file = repository().join(format!("crds/{name}.yaml")).display().to_string();
            control_plane.kubectl(&["apply", "--server-side", "-f", &file]).await?;
            control_plane.kubectl(&["wait", "--for=condition=Established", "-f", &file, "--timeout=60s"]).await?;
        }
        Ok(Self { control_plane, _turn: turn })
    }

    /// Applies objects as they are.
    pub(crate) async fn apply(&self, objects: Vec<Value>) -> anyhow::Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.control_plane.kubectl_with_input(&["apply", "-f", "-"], &list.to_string()).await?;
        Ok(())
    }

    /// What `kubectl get --raw` answers.
    pub(crate) async fn raw(&self, path: &str) -> Result<Value, String> {
        let output = self.control_plane.kubectl(&["get", "--raw", path]).await.map_err(|error| error.to_string())?;
        serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {}", output.stdout))
    }

    /// Waits until the API server reaches the adapter.
    pub(crate) async fn adapter_is_available(&self) -> anyhow::Result<()> {
        eventually("the adapter to be registered and reached", SOON, async || self.raw(ROOT).await).await?;
        let service = format!("apiservice/{API_SERVICE}");
        self.control_plane.kubectl(&["wait", "--for=condition=Available", &service, "--timeout=60s"]).await?;
        Ok(())
    }
}

/// How certificates are made in most tests: not renewed while they run.
pub(crate) fn long_lived() -> [u64; 3] {
    [36_000, 3_600, 5]
}

/// An operator whose adapter the API server reaches on loopback.
pub(crate) struct Operator {
    pub(crate) namespace: TestNamespace,
    pub(crate) port: u16,
    mode: Mode,
    lifetimes: [u64; 3],
    process: Process,
}

/// What goes when the operator is restarted.
struct Process {
    pages: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    /// As a service account with the rights of the chart; `lifetimes` of an authority and of what it signs, and the overlap, in seconds.
    pub(crate) async fn start(cluster: &Cluster, mode: Mode, lifetimes: [u64; 3]) -> anyhow::Result<Self> {
        let namespace = TestNamespace::create(&cluster.control_plane, "system").await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        cluster.apply(objects(namespace.name(), port)).await?;
        let client = as_service_account(cluster, &namespace, NAME).await?;
        let process = Process::start(client, listener, https(port, namespace.name(), mode, lifetimes)).await?;
        Ok(Self { namespace, port, mode, lifetimes, process })
    }

    /// Ends it and starts another one in its place, which knows nothing but what the cluster has.
    pub(crate) async fn restart(self, cluster: &Cluster) -> anyhow::Result<Self> {
        let Self { namespace, port, mode, lifetimes, process } = self;
        process.stop().await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let client = as_service_account(cluster, &namespace, NAME).await?;
        let process = Process::start(client, listener, https(port, namespace.name(), mode, lifetimes)).await?;
        Ok(Self { namespace, port, mode, lifetimes, process })
    }

    /// How many of these requests to the adapter ended so, as its own page says.
    pub(crate) async fn answered(&self, request: &str, outcome: &str) -> anyhow::Result<u64> {
        let page = reqwest::get(format!("{}/metrics", self.process.pages)).await?.error_for_status()?.text().await?;
        let name = format!("cllm_operator_adapter_requests_total{{outcome=\"{outcome}\",request=\"{request}\"}} ");
        let count = page.lines().find_map(|line| line.strip_prefix(&name));
        Ok(count.map(str::parse::<u64>).transpose()?.unwrap_or_default())
    }

    /// What it has stored.
    pub(crate) async fn stored(&self) -> anyhow::Result<Stored> {
        let secret = self.namespace.api::<Secret>().get(SECRET).await?;
        Stored::read(&secret.data.unwrap_or_default())?.context("nothing is stored")
    }

    /// A client of its HTTPS port, past the API server, that shows these credentials and sends these headers.
    pub(crate) async fn client(
        &self,
        credentials: AuthInfo,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<Client> {
        let mut config = Config::new(format!("https://127.0.0.1:{}", self.port).parse()?);
        config.root_cert = Some(vec![self.stored().await?.authority.der().to_vec()]);
        config.tls_server_name = Some(format!("{NAME}.{}.svc", self.namespace.name()));
        config.auth_info = credentials;
        for (name, value) in headers {
            config.headers.push((http::HeaderName::from_bytes(name.as_bytes())?, value.parse()?));
        }
        Ok(Client::try_from(config)?)
    }

    /// As SIGTERM.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}

impl Process {
    /// Waits until it is ready.
    async fn start(client: Client, listener: TcpListener, https: HttpsSettings) -> anyhow::Result<Self> {
        let images = Images::of_version("registry.example/", "test");
        let settings = Settings { client, namespace: None, images, leader_election: None, https: Some(https) };
        let pages = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = format!("http://{}", pages.local_addr()?);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(settings, Listeners { pages, https: Some(listener) }, stop.clone()));
        let ready = format!("{address}/readyz");
        eventually("the operator to be ready", SOON, async || {
            let answer = reqwest::get(&ready).await.and_then(reqwest::Response::error_for_status);
            answer.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        Ok(Self { pages: address, stop, task })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.context("the operator goes on")??
    }
}

fn https(port: u16, namespace: &str, mode: Mode, lifetimes: [u64; 3]) -> HttpsSettings {
    let service = ServiceAddress {
        namespace: namespace.to_owned(),
        name: NAME.to_owned(),
        port,
        cluster_domain: "cluster.local".to_owned(),
    };
    let [authority_lifetime, serving_lifetime, overlap] = lifetimes.map(Duration::from_secs);
    let rules = Rules { names: service.host_names().into(), authority_lifetime, serving_lifetime, overlap };
    HttpsSettings {
        service,
        secret: SECRET.to_owned(),
        certificates: Source::Own(rules),
        adapter: mode,
        injection_webhook: None,
        owner: Some(OWNER.to_owned()),
        // The only one: while it goes on, no other one can begin.
        closing: Closing { accepts_for: Duration::ZERO, ..Closing::default() },
    }
}

/// What the chart makes; the Service leads to this machine.
fn objects(namespace: &str, port: u16) -> Vec<Value> {
    let subject = json!({"kind": "ServiceAccount", "name": NAME, "namespace": namespace});
    let scaler = json!({"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"});
    let cluster_rules = [rbac::rules(), rbac::registration_rules(OWNER)].concat();
    vec![
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": namespace},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"name": "https", "port": port}]},
        }),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": namespace}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": namespace}}),
        role("ClusterRole", NAME, None, &cluster_rules),
        binding("ClusterRoleBinding", NAME, None, ("ClusterRole", NAME), &subject),
        role("ClusterRole", OWNER, None, &rbac::metrics_rules()),
        binding("ClusterRoleBinding", OWNER, None, ("ClusterRole", OWNER), &scaler),
        binding("ClusterRoleBinding", "delegator", None, ("ClusterRole", "system:auth-delegator"), &subject),
        role("Role", SECRET, Some(namespace), &rbac::certificate_rules(SECRET)),
        binding("RoleBinding", SECRET, Some(namespace), ("Role", SECRET), &subject),
        binding(
            "RoleBinding",
            "authentication-reader",
            Some("kube-system"),
            ("Role", "extension-apiserver-authentication-reader"),
            &subject,
        ),
    ]
}

fn role(kind: &str, name: &str, namespace: Option<&str>, rules: &[PolicyRule]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "rules": rules,
    })
}

pub(crate) fn binding(
    kind: &str,
    name: &str,
    namespace: Option<&str>,
    (role_kind, role): (&str, &str),
    subject: &Value,
) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role}, "subjects": [subject],
    })
}

/// A token of a service account.
pub(crate) async fn token(namespace: &TestNamespace, account: &str) -> anyhow::Result<String> {
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}}))?;
    let accounts = namespace.api::<ServiceAccount>();
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    Ok(made.status.context("no token")?.token)
}

/// A client of the API server that is that service account.
pub(crate) async fn as_service_account(
    cluster: &Cluster,
    namespace: &TestNamespace,
    account: &str,
) -> anyhow::Result<Client> {
    let mut config = cluster.control_plane.config().clone();
    config.auth_info = AuthInfo { token: Some(token(namespace, account).await?.into()), ..AuthInfo::default() };
    config.default_namespace = namespace.name().to_owned();
    Ok(Client::try_from(config)?)
}

/// A client certificate of the control plane.
pub(crate) fn certificate_of(cluster: &Cluster, name: &str) -> AuthInfo {
    let file =
        |kind: &str| Some(cluster.control_plane.folder().join(format!("pki/{name}.{kind}")).display().to_string());
    AuthInfo { client_certificate: file("crt"), client_key: file("key"), ..AuthInfo::default() }
}

/// A client certificate and its key as PEM.
pub(crate) fn shown(certificate: &str, key: &str) -> AuthInfo {
    AuthInfo {
        client_certificate_data: Some(BASE64_STANDARD.encode(certificate)),
        client_key_data: Some(BASE64_STANDARD.encode(key).into()),
        ..AuthInfo::default()
    }
}

/// What the adapter answers: its JSON, or the code of its refusal with its message.
pub(crate) async fn ask(client: &Client, path: &str) -> Result<Value, (u16, String)> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| (0, error.to_string()))?;
    match client.request::<Value>(request).await {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => Err((0, format!("{error:?}"))),
    }
}

/// The metrics page of a Pod, on an address of this machine that no other Pod has.
pub(crate) struct Page {
    pub(crate) address: Ipv4Addr,
    text: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Page {
    pub(crate) async fn start(text: &str) -> anyhow::Result<Self> {
        let text = Arc::new(Mutex::new(Some(text.to_owned())));
        let shown = text.clone();
        let page = move || {
            let text = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            std::future::ready(text.ok_or(StatusCode::SERVICE_UNAVAILABLE))
        };
        let router = Router::new().route("/metrics", get(page));
        let (address, listener) = listen().await?;
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, text, task })
    }

    /// Another page, or none any more.
    pub(crate) fn set(&self, text: Option<String>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The port of pages is fixed, and so the address is not: all of 127.0.0.0/8 leads to this machine.
async fn listen() -> anyhow::Result<(Ipv4Addr, TcpListener)> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id().to_be_bytes();
    for _ in 0..200 {
        let address = Ipv4Addr::new(127, process[2].max(1), process[3], NEXT.fetch_add(1, Ordering::SeqCst));
        if let Ok(listener) = TcpListener::bind(SocketAddr::from((address, 9090))).await {
            return Ok((address, listener));
        }
    }
    anyhow::bail!("no free address for a page")
}

/// A page with these figures.
pub(crate) fn figures(tokens_per_second: f64, utilization_percent: f64, queued: u32) -> String {
    format!(
        "cllm_tokens_per_second{{model_name=\"text2sql\"}} {tokens_per_second}\n\
         cllm_utilization_percent{{model_name=\"text2sql\"}} {utilization_percent}\n\
         cllm_queued_requests{{model_name=\"text2sql\"}} {queued}\n"
    )
}

/// The items of a list: name and value.
pub(crate) fn items(list: &Value) -> anyhow::Result<Vec<(String, String)>> {
    ensure!(list["kind"] == "MetricValueList", "{list}");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().context("no items")?;
    Ok(items.iter().map(|item| (word(&item["describedObject"]["name"]), word(&item["value"]))).collect())
}
