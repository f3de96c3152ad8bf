//! `/livez`, `/readyz` and `/metrics` of the operator itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::controller::metrics::Metrics;

/// How many controllers have yet to read the resources that exist; one that stands by for the leader is ready too. Neither is while it has
/// nothing to serve over HTTPS that it should: the API server would be sent to it.
#[derive(Clone, Debug)]
pub(super) struct Readiness {
    waiting: Arc<AtomicUsize>,
    stands_by: Arc<AtomicBool>,
    serves: Arc<AtomicBool>,
}

impl Readiness {
    /// That many controllers, and what is served over HTTPS, if anything is.
    pub(super) fn waiting_for(controllers: usize, https: bool) -> Self {
        Self {
            waiting: Arc::new(AtomicUsize::new(controllers)),
            stands_by: Arc::default(),
            serves: Arc::new(AtomicBool::new(!https)),
        }
    }

    /// One controller has read its resources.
    pub(super) fn one_is_ready(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// The Lease was read: if another operator leads, this one is as ready as it can be.
    pub(super) fn stands_by(&self) {
        self.stands_by.store(true, Ordering::Release);
    }

    /// There is a certificate to serve, and it is known whom to trust.
    pub(super) fn serves(&self) {
        self.serves.store(true, Ordering::Release);
    }

    fn missing(&self) -> Option<&'static str> {
        if !self.stands_by.load(Ordering::Acquire) && self.waiting.load(Ordering::Acquire) > 0 {
            Some("the resources are not read yet")
        } else if !self.serves.load(Ordering::Acquire) {
            Some("there is no certificate to serve yet, or it is not known whom to trust")
        } else {
            None
        }
    }
}

/// Serves until `stop` completes.
pub(super) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state((metrics, readiness));
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn ready(State((_, readiness)): State<(Metrics, Readiness)>) -> (StatusCode, &'static str) {
    match readiness.missing() {
        None => (StatusCode::OK, "ok"),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
    }
}

async fn metrics_page(State((metrics, _)): State<(Metrics, Readiness)>) -> impl IntoResponse {
    match metrics.page() {
        Ok(page) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
