//! Authorities and certificates are replaced under a steady stream of requests through the API server, and none of them fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use cllm_operator::adapter::Mode;
use cllm_tests::eventually;
use kube::Client;

use crate::support::{Cluster, Operator, ROOT, ask};

/// Of an authority, of what it signs, and for how long the next authority is published before: a machine that compiles meanwhile keeps up.
pub(crate) const LIFETIMES: [u64; 3] = [60, 36, 5];
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_authorities_are_replaced() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let operator = Operator::start(&cluster, Mode::Auto, LIFETIMES).await?;
    cluster.adapter_is_available().await?;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = tokio::spawn(ask_until_stopped(cluster.control_plane.client()?, stop.clone(), sent.clone()));

    let mut authorities = BTreeSet::new();
    eventually(
        "a second authority to sign what is served, and the first to be trusted no more",
        PATIENCE,
        async || {
            let stored = operator.stored().await.map_err(|error| error.to_string())?;
            authorities.insert(stored.authority.der().to_vec());
            let is_over =
                authorities.len() > 1 && stored.older.is_empty() && stored.serving.is_signed_by(&stored.authority);
            if is_over {
                Ok(())
            } else {
                Err(format!("{} authorities, {} older", authorities.len(), stored.older.len()))
            }
        },
    )
    .await?;
    stop.store(true, Ordering::SeqCst);
    let failures = asking.await?;
    ensure!(failures.is_empty(), "{failures:#?}");
    ensure!(sent.load(Ordering::SeqCst) > 100, "only {} requests", sent.load(Ordering::SeqCst));
    operator.stop().await
}

async fn ask_until_stopped(client: Client, stop: Arc<AtomicBool>, sent: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        if let Err(refusal) = ask(&client, ROOT).await {
            failures.push(format!("request {}: {refusal:?}", sent.load(Ordering::SeqCst)));
        }
        sent.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    failures
}
