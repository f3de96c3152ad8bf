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
use crate::injection::Injector;

/// How many controllers have yet to read the resources that exist; one that stands by for the leader is ready too. Whether it leads or
/// not, it must be able to answer for sidecars, where it is asked.
#[derive(Clone, Debug)]
pub(super) struct Readiness {
    waiting: Arc<AtomicUsize>,
    stands_by: Arc<AtomicBool>,
    injector: Option<Injector>,
}

impl Readiness {
    /// That many controllers.
    pub(super) fn waiting_for(controllers: usize, injector: Option<Injector>) -> Self {
        Self { waiting: Arc::new(AtomicUsize::new(controllers)), stands_by: Arc::default(), injector }
    }

    /// One controller has read its resources.
    pub(super) fn one_is_ready(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// The Lease was read: if another operator leads, this one is as ready as it can be.
    pub(super) fn stands_by(&self) {
        self.stands_by.store(true, Ordering::Release);
    }

    fn is_ready(&self) -> bool {
        self.injector.as_ref().is_none_or(Injector::is_ready)
            && (self.stands_by.load(Ordering::Acquire) || self.waiting.load(Ordering::Acquire) == 0)
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
    if readiness.is_ready() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the resources are not read yet")
    }
}

async fn metrics_page(State((metrics, _)): State<(Metrics, Readiness)>) -> impl IntoResponse {
    match metrics.page() {
        Ok(page) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
