//! A steady stream of requests through a Service, as a Pod on a node would send it.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use serde_json::json;

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
        let (url, body) =
            (format!("{url}/v1/completions"), json!({"model": model, "prompt": "How many", "max_tokens": 16}));
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

async fn ask_until_stopped(url: &str, body: &serde_json::Value, stop: &AtomicBool, sent: &AtomicUsize) -> Vec<String> {
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

async fn ask(url: &str, body: &serde_json::Value) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    let answer = client.post(url).json(body).send().await?.error_for_status()?;
    let answer = answer.json::<serde_json::Value>().await?;
    Ok(answer["choices"][0]["text"].as_str().unwrap_or_default().to_owned())
}

fn network(namespace: &str) -> std::io::Result<File> {
    File::open(format!("/run/netns/{namespace}"))
}

/// Runs in that network on this thread, which stays there: the runtime has no other.
fn from_inside<T>(network: File, work: impl Future<Output = T>) -> anyhow::Result<T> {
    setns(network, CloneFlags::CLONE_NEWNET)?;
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// The answer to one question, asked through the Service at `url` from inside a node's network.
pub(crate) async fn answer(network_namespace: &str, url: &str) -> anyhow::Result<String> {
    let network = network(network_namespace)?;
    let (url, body) = (
        format!("{url}/v1/completions"),
        json!({"model": "text2sql", "prompt": "How many customers are there?\n", "max_tokens": 32}),
    );
    let thread = thread::spawn(move || from_inside(network, ask(&url, &body))?);
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("the thread that asked panicked"))?
}
