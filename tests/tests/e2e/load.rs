//! A steady stream of requests through a Service, as a Pod on a node would send it.

use std::{
    fs::{self, File},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinSet};

/// Of an answer that waits for many others.
const PATIENCE: Duration = Duration::from_secs(300);

/// Requests one after the other until stopped. Every one has a connection of its own, as the first of a client does.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Load {
    /// Starts to ask for completions at `url` from inside a node's network.
    pub(crate) fn start(network_namespace: &str, url: &str, model: &str) -> std::io::Result<Self> {
        let network = network(network_namespace)?;
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (url, body) = (format!("{url}/v1/completions"), question(model));
        let (stopped, counter) = (stop.clone(), sent.clone());
        let thread = thread::spawn(move || {
            let asked = from_inside(network, ask_until_stopped(&url, &body, &stopped, &counter));
            asked.unwrap_or_else(|error| vec![format!("cannot ask from the node's network: {error}")])
        });
        Ok(Self { stop, sent, thread })
    }

    /// How many were sent so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Stops, and tells what failed.
    pub(crate) fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_else(|_| vec!["the thread that sent requests panicked".to_owned()])
    }
}

async fn ask_until_stopped(url: &str, body: &Value, stop: &AtomicBool, sent: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        if let Err(error) = ask(url, body).await {
            failures.push(format!("request {}: {error:#}", sent.load(Ordering::SeqCst)));
        }
        sent.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    failures
}

/// Requests at a rate that can be changed, whether or not earlier ones are answered, as many people ask.
pub(crate) struct OpenLoad {
    stop: Arc<AtomicBool>,
    /// A thousand seconds' worth.
    rate: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl OpenLoad {
    /// Asks for completions at `url` from inside a node's network; nothing yet.
    pub(crate) fn start(network_namespace: &str, url: &str, model: &str) -> std::io::Result<Self> {
        let network = network(network_namespace)?;
        let (stop, rate, sent) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let asked = Asked { url: format!("{url}/v1/completions"), body: question(model) };
        let (stopped, wanted, counter) = (stop.clone(), rate.clone(), sent.clone());
        let thread = thread::spawn(move || {
            let asked = from_inside(network, ask_at_rate(asked, &wanted, &stopped, &counter));
            asked.unwrap_or_else(|error| vec![format!("cannot ask from the node's network: {error}")])
        });
        Ok(Self { stop, rate, sent, thread })
    }

    /// So many requests per second from now on.
    pub(crate) fn set(&self, per_second: f64) {
        self.rate.store((1000.0 * per_second).round() as usize, Ordering::SeqCst);
    }

    /// How many were sent so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Stops, waits for the last answers, and tells what failed.
    pub(crate) async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        joined.ok().and_then(Result::ok).unwrap_or_else(|| vec!["the thread that sent requests panicked".to_owned()])
    }
}

/// The same question each time.
#[derive(Clone)]
struct Asked {
    url: String,
    body: Value,
}

async fn ask_at_rate(asked: Asked, rate: &AtomicUsize, stop: &AtomicBool, sent: &AtomicUsize) -> Vec<String> {
    let (mut answers, mut failures) = (JoinSet::new(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        match rate.load(Ordering::SeqCst) {
            0 => tokio::time::sleep(Duration::from_millis(100)).await,
            rate => {
                let Asked { url, body } = asked.clone();
                answers.spawn(async move { post(&url, &body, PATIENCE).await.map(drop) });
                sent.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1000) / u32::try_from(rate).unwrap_or(u32::MAX)).await;
            }
        }
        while let Some(answer) = answers.try_join_next() {
            failures.extend(failure(answer));
        }
    }
    while let Some(answer) = answers.join_next().await {
        failures.extend(failure(answer));
    }
    failures
}

fn failure(answer: Result<anyhow::Result<()>, JoinError>) -> Option<String> {
    match answer {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(error) => Some(error.to_string()),
    }
}

fn question(model: &str) -> Value {
    json!({"model": model, "prompt": "How many", "max_tokens": 16})
}

async fn ask(url: &str, body: &Value) -> anyhow::Result<String> {
    let answer = post(url, body, Duration::from_secs(30)).await?;
    Ok(answer["choices"][0]["text"].as_str().unwrap_or_default().to_owned())
}

async fn post(url: &str, body: &Value, within: Duration) -> anyhow::Result<Value> {
    let client = reqwest::Client::builder().timeout(within).build()?;
    Ok(client.post(url).json(body).send().await?.error_for_status()?.json().await?)
}

/// How many tokens the answer to the question of an [`OpenLoad`] has: always the same, since nothing is drawn.
pub(crate) async fn tokens_of_an_answer(network_namespace: &str, url: &str, model: &str) -> anyhow::Result<f64> {
    let (url, body) = (format!("{url}/v1/completions"), question(model));
    let answer = inside(network(network_namespace)?, async move || post(&url, &body, PATIENCE).await).await?;
    answer["usage"]["completion_tokens"].as_f64().filter(|tokens| *tokens > 0.0).context("no tokens")
}

fn network(namespace: &str) -> std::io::Result<File> {
    File::open(format!("/run/netns/{namespace}"))
}

/// The network of a Pod that runs: that of its processes, whose control group the kubelet names by its uid.
pub(crate) fn network_of_pod(uid: &str) -> anyhow::Result<File> {
    let of_pod = format!("pod{uid}");
    for process in fs::read_dir("/proc")? {
        let folder = process?.path();
        if fs::read_to_string(folder.join("cgroup")).is_ok_and(|groups| groups.contains(&of_pod)) {
            return Ok(File::open(folder.join("ns/net"))?);
        }
    }
    anyhow::bail!("no process is in a control group {of_pod}")
}

/// What `work` finds in that network.
pub(crate) async fn inside<T: Send + 'static>(
    network: File,
    work: impl AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let thread = thread::spawn(move || from_inside(network, async { work().await })?);
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("the thread that asked panicked"))?
}

/// Runs in that network on this thread, which stays there: the runtime has no other.
fn from_inside<T>(network: File, work: impl Future<Output = T>) -> anyhow::Result<T> {
    setns(network, CloneFlags::CLONE_NEWNET)?;
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// The answer to one question, asked through the Service at `url` from inside a node's network.
pub(crate) async fn answer(network_namespace: &str, url: &str) -> anyhow::Result<String> {
    let (url, body) = (
        format!("{url}/v1/completions"),
        json!({"model": "text2sql", "prompt": "How many customers are there?\n", "max_tokens": 32}),
    );
    inside(network(network_namespace)?, async move || ask(&url, &body).await).await
}
