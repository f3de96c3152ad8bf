//! The binary `cllm-operator`: parses, connects, runs.

use anyhow::Context;
use clap::Parser;
use cllm_operator::args::{Args, Command, RunArgs};
use cllm_operator::controller::{Listeners, Settings, run};
use cllm_operator::https::HttpsSettings;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { command } = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    match command {
        Command::Run(arguments) => run_until_signal(*arguments).await,
        Command::Check { url } => check(&url).await,
    }
}

async fn run_until_signal(arguments: RunArgs) -> anyhow::Result<()> {
    let client =
        kube::Client::try_default().await.context("cannot connect to a cluster: set KUBECONFIG, or run in a Pod")?;
    let address = arguments.metrics_address;
    let pages = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: use --metrics-address"))?;
    let (https, https_listener) = https(&arguments, client.default_namespace()).await?.unzip();
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    let images = arguments.images();
    let leader_election = arguments.leader_election(client.default_namespace());
    tracing::info!(%address, ?images, namespace = ?arguments.namespace, ?leader_election, ?https, "running");
    let settings = Settings { client, namespace: arguments.namespace, images, leader_election, https };
    run(settings, Listeners { pages, https: https_listener }, stop).await
}

/// What to serve over HTTPS, and where; `namespace` is that of this Pod.
async fn https(arguments: &RunArgs, namespace: &str) -> anyhow::Result<Option<(HttpsSettings, TcpListener)>> {
    let wanted = &arguments.https;
    if !wanted.serves(arguments.namespace.as_deref()) {
        return Ok(None);
    }
    let address = wanted.https_address;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}: use --https-address"))?;
    Ok(Some((wanted.settings(namespace), listener)))
}

async fn cancel_on_signal(stop: CancellationToken) {
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    stop.cancel();
}

async fn check(url: &str) -> anyhow::Result<()> {
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let answer = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status);
    answer.with_context(|| format!("no operator is ready at {url}: look at its Pods"))?;
    tracing::info!(%url, "ready");
    Ok(())
}
