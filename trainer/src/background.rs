//! The background thread of a trainer: signals, and the metrics port with `/status`, `/metrics` and `/livez`.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Gauge, GaugeVec, Opts, Registry, TextEncoder};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Result};
use crate::progress::{SharedStatus, lock};

/// Starts the thread. The flag becomes true at the first SIGTERM or SIGINT; a second one ends the process at once.
/// Serves on `port` of `host` unless it is 0.
pub(crate) fn start(status: SharedStatus, host: IpAddr, port: u16) -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let listener = if port == 0 { None } else { Some(listen(SocketAddr::new(host, port))?) };
    let flag = interrupted.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::engine)?;
    // registered before this returns, so that no signal is missed
    let signals = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    });
    let (mut terminate, mut interrupt) = signals.map_err(Failure::engine)?;
    let serve = move || {
        runtime.block_on(async move {
            if let Some(listener) = listener {
                tokio::spawn(serve(listener, status));
            }
            wait(&mut terminate, &mut interrupt).await;
            flag.store(true, Ordering::Relaxed);
            tracing::info!("stopping at the next safe point; a second signal stops at once");
            wait(&mut terminate, &mut interrupt).await;
            exit_at_once();
        });
    };
    std::thread::Builder::new().name("background".to_owned()).spawn(serve).map_err(Failure::engine)?;
    Ok(interrupted)
}

async fn wait(terminate: &mut tokio::signal::unix::Signal, interrupt: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[expect(
    clippy::exit,
    reason = "a person who signals twice does not want to wait; files are renamed into place, so nothing breaks"
)]
fn exit_at_once() {
    std::process::exit(i32::from(Failure::Interrupted.exit_code()));
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(listener)
    };
    bind()
        .map_err(|error| Failure::Engine(format!("cannot listen on {address}: {error}; choose another --metrics-port")))
}

async fn serve(listener: TcpListener, status: SharedStatus) {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/status", get(status_page))
        .route("/metrics", get(metrics))
        .with_state(status);
    let outcome = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, routes).await,
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        tracing::error!("the metrics port stopped answering: {error}");
    }
}

async fn status_page(State(status): State<SharedStatus>) -> impl IntoResponse {
    Json(lock(&status).clone())
}

async fn metrics(State(status): State<SharedStatus>) -> impl IntoResponse {
    exposition(&status).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// Progress and figures in the text format of Prometheus.
fn exposition(status: &SharedStatus) -> prometheus::Result<String> {
    let progress = lock(status).progress.clone();
    let registry = Registry::new();
    let ratio = Gauge::new("cllm_trainer_progress_ratio", "How much of the stage is done, 0 to 1.")?;
    ratio.set(f64::from(progress.progress_percentage) / 100.0);
    registry.register(Box::new(ratio))?;
    let figures = GaugeVec::new(Opts::new("cllm_trainer_figure", "Figures of the stage by name."), &["name"])?;
    for metric in &progress.metrics {
        if let Ok(value) = metric.value.parse() {
            figures.with_label_values(&[&metric.name]).set(value);
        }
    }
    registry.register(Box::new(figures))?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use cllm_crds::status_page::JobStage;

    use super::*;
    use crate::progress::{Reporter, new_status};

    #[test]
    fn figures_are_exposed_by_name() {
        let status = new_status(JobStage::Training);
        Reporter::new(status.clone(), Arc::default(), false).update(1, 4, &[("loss", "0.5".to_owned())]);
        let text = exposition(&status).unwrap();
        assert!(text.contains("cllm_trainer_progress_ratio 0.25"), "{text}");
        assert!(text.contains("cllm_trainer_figure{name=\"loss\"} 0.5"), "{text}");
    }
}
