//! An operator that answers the API server over HTTPS: it counts its answers, and told to end it leads no more, but answers on until the API
//! server knows.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_operator::certificates::certificates;
use cllm_operator::controller::LeaderElection;
use cllm_operator::election::Timing;
use cllm_operator::https::Closing;
use cllm_operator::injection::Key;
use cllm_operator::rbac::{certificate_rules, lease_rules, rules};
use cllm_tests::{ControlPlane, TestNamespace, eventually, eventually_object};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::door::{SECRET, Written, allow, apply, https, review, written};
use crate::rights::account;
use crate::support::{Operator, SOON, cluster, create, model_resource};

const NAME: &str = "cllm-operator";
/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

/// An operator that leads, and what is known of its door.
struct Serving {
    operator: Operator,
    address: SocketAddr,
    /// Of the webhook, the Service and the namespace.
    name: String,
    written: Written,
}

impl Serving {
    /// Started with the rights of the chart; its port goes on for longer than any test.
    async fn start(cluster: &ControlPlane, namespace: &TestNamespace) -> anyhow::Result<Self> {
        let name = namespace.name().to_owned();
        let rights = [rules(), lease_rules(), certificate_rules(SECRET)].concat();
        let client = account(cluster, namespace, rights).await?;
        allow(cluster, namespace).await?;
        apply(cluster, &name, "first").await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let settings = https(&name, Closing { accepts_for: HOUR, answers_within: HOUR });
        let election = LeaderElection {
            namespace: name.clone(),
            name: NAME.to_owned(),
            identity: "only".to_owned(),
            timing: Timing::default(),
        };
        let operator = Operator::start_serving(client, namespace, Some(election), Some((settings, listener))).await?;
        let webhooks = Api::<MutatingWebhookConfiguration>::all(cluster.client()?);
        let written = written(&webhooks, &name, None).await?;
        let serving = Self { operator, address, name, written };
        // It reads the key a moment after it was written.
        let review = review(namespace.name());
        eventually("an answer", SOON, async || serving.ask(&serving.path(), &review).await.map(drop)).await?;
        Ok(serving)
    }

    fn path(&self) -> String {
        self.written.key.path()
    }

    /// The answer to a review, on a connection of its own.
    async fn ask(&self, path: &str, review: &Value) -> anyhow::Result<Value> {
        let mut config = Config::new(format!("https://{}", self.address).parse()?);
        let authorities = certificates(&self.written.authorities)?;
        config.root_cert = Some(authorities.iter().map(|authority| authority.to_vec()).collect());
        config.tls_server_name = Some(format!("{0}.{0}.svc", self.name));
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
        Ok(Client::try_from(config)?.request(request.body(review.to_string().into_bytes())?).await?)
    }

    /// How many reviews ended so, as its own page says.
    async fn answered(&self, outcome: &str) -> anyhow::Result<u64> {
        let page = self.operator.page("metrics").await.map_err(anyhow::Error::msg)?;
        let name = format!("cllm_operator_admission_reviews_total{{outcome=\"{outcome}\"}} ");
        let count = page.lines().find_map(|line| line.strip_prefix(&name));
        Ok(count.map(str::parse::<u64>).transpose()?.unwrap_or_default())
    }
}

/// A namespace with the model that reviews ask for.
async fn with_model(cluster: &ControlPlane, prefix: &str) -> anyhow::Result<TestNamespace> {
    let namespace = TestNamespace::create(cluster, prefix).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    Ok(namespace)
}

fn has_patch(answer: &Value) -> bool {
    answer["response"]["patch"].is_string()
}

#[tokio::test]
async fn an_operator_that_is_told_to_end_leads_no_more_and_answers_on() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = with_model(cluster, "ending").await?;
    let serving = Serving::start(cluster, &namespace).await?;

    serving.operator.tell_to_end();
    let refusal = serving.operator.page("readyz").await.err().context("it is ready still")?;
    ensure!(refusal.contains("503"), "{refusal}");
    let is_released = |lease: &Lease| (lease.spec.as_ref()?.holder_identity.as_deref() == Some("")).then_some(());
    eventually_object(&namespace.api::<Lease>(), NAME, "the Lease to be released", SOON, is_released).await?;
    let answer = serving.ask(&serving.path(), &review(namespace.name())).await?;
    ensure!(has_patch(&answer), "{answer}");
    serving.operator.page("livez").await.map_err(anyhow::Error::msg)?;
    serving.operator.kill().await;
    Ok(())
}

#[tokio::test]
async fn reviews_are_counted_by_how_they_ended() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = with_model(cluster, "counted").await?;
    let serving = Serving::start(cluster, &namespace).await?;
    let asking = review(namespace.name());
    let changed = |pointer: &str, value: Value| {
        let mut review = asking.clone();
        if let Some(place) = review.pointer_mut(pointer) {
            *place = value;
        }
        review
    };
    let stranger = Key::random().path();
    for (path, review, outcome) in [
        (serving.path(), asking.clone(), "injected"),
        (serving.path(), changed("/request/operation", json!("UPDATE")), "untouched"),
        (serving.path(), changed("/request/namespace", json!("elsewhere")), "refused"),
        (serving.path(), changed("/request", Value::Null), "invalid"),
        (stranger, asking.clone(), "without_key"),
    ] {
        let before = serving.answered(outcome).await?;
        // Some of them are refused.
        drop(serving.ask(&path, &review).await);
        let after = serving.answered(outcome).await?;
        ensure!(after == before + 1, "{outcome}: {before} became {after}");
    }
    serving.operator.kill().await;
    Ok(())
}
