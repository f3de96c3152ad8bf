//! Models that are scaled by the controller of Kubernetes, on each of the three signals: up under load, down without, and calm in between.
//!
//! The replicas are capped (`maxTokensPerSecond`): two processors must not pretend that more replicas can do more.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use cllm_crds::CllmModel;
use cllm_tests::{Cluster, TestNamespace, eventually_object, product::Product};
use kube::Api;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    load::{OpenLoad, tokens_of_an_answer},
    scenario::{cluster, condition, create_model, model_is_ready, service_url, team},
};

/// Tokens per second of a replica.
const CAP: f64 = 40.0;
const FEWEST: u32 = 2;
const MOST: u32 = 4;
/// The autoscaler looks every two seconds; a replica needs a few to load.
const CHANGES_WITHIN: Duration = Duration::from_secs(300);
/// Of constant load, in which nothing may change.
const CALM: Duration = Duration::from_secs(180);

/// What a model is scaled on, and the load, in tokens per second, that needs all replicas.
struct Signal {
    target: Value,
    busy: f64,
    /// Between what the figure of a replica is under that load, and the target, as `kubectl get hpa` shows it.
    shown: (RangeInclusive<f64>, &'static str),
}

#[tokio::test]
#[ignore = "ten minutes: make e2e"]
async fn a_model_is_scaled_on_tokens_per_second() -> anyhow::Result<()> {
    // 25 tokens per second of each of four.
    let target = json!({"targetTokensPerSecond": 30});
    Box::pin(scales(&Signal { target, busy: 100.0, shown: (15.0..=35.0, "30") })).await
}

#[tokio::test]
#[ignore = "ten minutes: make e2e"]
async fn a_model_is_scaled_on_utilization() -> anyhow::Result<()> {
    // Five eighths of what each of four can do.
    let target = json!({"targetUtilization": 60});
    Box::pin(scales(&Signal { target, busy: 100.0, shown: (40.0..=85.0, "60") })).await
}

#[tokio::test]
#[ignore = "ten minutes: make e2e"]
async fn a_model_is_scaled_on_queued_requests() -> anyhow::Result<()> {
    // A little more than four can do, so that requests go on waiting; they are answered all the same.
    let target = json!({"targetQueuedRequests": 4});
    Box::pin(scales(&Signal { target, busy: 4.2 * CAP, shown: (4.0..=4096.0, "4") })).await
}

async fn scales(signal: &Signal) -> anyhow::Result<()> {
    let cluster = cluster(2).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "scaling").await?;
    create_model(&namespace, spec(signal)).await?;
    model_is_ready(&namespace).await?;
    let (network, url) = (cluster.network_namespace(0), service_url(&namespace).await?);
    let tokens = tokens_of_an_answer(&network, &url, "text2sql").await?;
    let (watcher, load) = (Watcher::start(&namespace), OpenLoad::start(&network, &url, "text2sql")?);

    load.set(signal.busy / tokens);
    reaches(&namespace, MOST).await.context("up")?;
    // The first load may have asked for more than the steady one needs.
    let rose = watcher.take();
    calm(&watcher, MOST).await?;
    has_figures(&cluster, &namespace, signal).await?;
    load.set(0.1 * CAP / tokens);
    reaches(&namespace, FEWEST).await.context("down")?;
    let fell = watcher.take();
    tokio::time::sleep(CALM / 3).await;
    let stayed = watcher.take();

    for replicas in [&rose, &fell] {
        ensure!(turns(replicas) <= 1, "more than one overshoot: up {rose:?}, down {fell:?}");
    }
    ensure!(stayed == [FEWEST], "without load: {stayed:?}");
    let unready = watcher.unready();
    ensure!(unready.is_empty(), "not Ready meanwhile: {unready:#?}");
    ensure!(load.sent() > 100, "only {} requests", load.sent());
    let failures = load.failures().await;
    ensure!(failures.is_empty(), "{} failed: {:#?}", failures.len(), &failures[..failures.len().min(5)]);
    Ok(())
}

fn spec(signal: &Signal) -> Value {
    let mut autoscaling = json!({
        "minReplicas": FEWEST, "maxReplicas": MOST,
        // 300 s in production.
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 20}},
    });
    for (name, target) in signal.target.as_object().into_iter().flatten() {
        autoscaling[name] = target.clone();
    }
    // Nobody is turned away before there are more replicas.
    json!({"server": {"maxTokensPerSecond": CAP as u32, "maxQueuedRequests": 4096}, "autoscaling": autoscaling})
}

/// Waits until there are so many replicas, and all answer.
async fn reaches(namespace: &TestNamespace, replicas: u32) -> anyhow::Result<()> {
    let what = format!("{replicas} replicas");
    let models = namespace.api::<CllmModel>();
    let reached = eventually_object(&models, "text2sql", &what, CHANGES_WITHIN, |model: &CllmModel| {
        let ready = model.status.as_ref()?.ready_replicas;
        (model.spec.replicas == replicas && i64::from(ready) == i64::from(replicas)).then_some(())
    });
    Ok(reached.await?)
}

/// Under constant load nothing changes for three minutes, once it has settled.
async fn calm(watcher: &Watcher, replicas: u32) -> anyhow::Result<()> {
    tokio::time::sleep(CALM).await;
    let seen = watcher.take();
    ensure!(seen == [replicas], "under constant load: {seen:?}");
    Ok(())
}

/// `kubectl get hpa` shows the figure of the moment and the target, as `62500m/60`.
async fn has_figures(cluster: &Cluster, namespace: &TestNamespace, signal: &Signal) -> anyhow::Result<()> {
    let shown = cluster.control_plane().kubectl(&["get", "hpa", "-n", namespace.name(), "--no-headers"]).await?.stdout;
    let (sensible, target) = &signal.shown;
    let mut figures = shown.split_whitespace().filter_map(|word| word.split_once('/'));
    let figure = figures.find_map(|(figure, of)| quantity(figure).filter(|_| of == *target));
    ensure!(figure.is_some_and(|figure| sensible.contains(&figure)), "{shown}");
    Ok(())
}

/// A quantity in units or thousandths.
fn quantity(text: &str) -> Option<f64> {
    let (digits, unit) = text.strip_suffix('m').map_or((text, 1.0), |digits| (digits, 1000.0));
    Some(digits.parse::<f64>().ok()? / unit)
}

/// How often a number that went one way goes the other way.
fn turns(numbers: &[u32]) -> usize {
    let steps: Vec<bool> = numbers.windows(2).map(|pair| pair[1] > pair[0]).collect();
    steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// Looks at the model twice a second: what replicas it had, one after the other, and when it was not Ready.
struct Watcher {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    replicas: Vec<u32>,
    unready: Vec<String>,
}

impl Watcher {
    fn start(namespace: &TestNamespace) -> Self {
        let (models, seen) = (namespace.api::<CllmModel>(), Arc::<Mutex<Seen>>::default());
        let task = tokio::spawn(look_again_and_again(models, seen.clone()));
        Self { seen, task }
    }

    /// The numbers of replicas since the last time, no number twice in a row.
    fn take(&self) -> Vec<u32> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.replicas.last().copied();
        std::mem::replace(&mut seen.replicas, last.into_iter().collect())
    }

    fn unready(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).unready.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look_again_and_again(models: Api<CllmModel>, seen: Arc<Mutex<Seen>>) {
    loop {
        if let Ok(model) = models.get("text2sql").await {
            let conditions = model.status.unwrap_or_default().conditions;
            let ready = condition(&conditions, "Ready").filter(|ready| ready.status != "True");
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.replicas.last() != Some(&model.spec.replicas) {
                seen.replicas.push(model.spec.replicas);
            }
            seen.unready.extend(ready.map(|ready| format!("{}: {}", ready.reason, ready.message)));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
