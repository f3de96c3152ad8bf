//! `/livez`, `/readyz` and `/metrics` of the operator itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::controller::metrics::Metrics;
use crate::injection::Injector;

/// What keeps this operator from being ready. One that stands by for the leader need not have read the resources; but whoever leads, it must be
/// able to answer over HTTPS, where it should: the API server would be sent to it.
#[derive(Clone, Debug)]
pub(super) struct Readiness(Arc<Flags>);

#[derive(Debug)]
struct Flags {
    /// Controllers that have yet to read the resources that exist.
    waiting: AtomicUsize,
    stands_by: AtomicBool,
    leads: AtomicBool,
    has_looked: AtomicBool,
    serves: AtomicBool,
    injector: Option<Injector>,
    stop: CancellationToken,
}

impl Readiness {
    /// That many controllers, what is served over HTTPS, if anything is, and what answers for sidecars, if anything does; until the stop.
    pub(super) fn waiting_for(
        controllers: usize,
        https: bool,
        injector: Option<Injector>,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Flags {
            waiting: AtomicUsize::new(controllers),
            stands_by: AtomicBool::default(),
            leads: AtomicBool::default(),
            has_looked: AtomicBool::default(),
            serves: AtomicBool::new(!https),
            injector,
            stop,
        }))
    }

    /// One controller has read its resources.
    pub(super) fn one_is_ready(&self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// The Lease was read: if another operator leads, this one is as ready as it can be.
    pub(super) fn stands_by(&self) {
        self.0.stands_by.store(true, Ordering::Release);
    }

    /// This one leads, until its end.
    pub(super) fn leads(&self) {
        self.0.leads.store(true, Ordering::Release);
    }

    /// It is known whom to trust, and whether there is a certificate. The leader makes it, but one of an earlier version, or one that serves
    /// nothing, never does: who waited for it would hold up the rollout that replaces that leader.
    pub(super) fn has_looked(&self) {
        self.0.has_looked.store(true, Ordering::Release);
    }

    /// There is a certificate to serve, and it is known whom to trust.
    pub(super) fn serves(&self) {
        self.0.serves.store(true, Ordering::Release);
    }

    fn missing(&self) -> Option<&'static str> {
        let Flags { waiting, stands_by, leads, has_looked, serves, injector, stop } = &*self.0;
        let is = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        if stop.is_cancelled() {
            Some("this operator is about to end")
        } else if !is(stands_by) && waiting.load(Ordering::Acquire) > 0 {
            Some("the resources are not read yet")
        } else if !is(serves) && (is(leads) || !is(has_looked)) {
            Some("there is no certificate to serve yet, or it is not known whom to trust")
        } else if injector.as_ref().is_some_and(|injector| !injector.is_ready()) {
            Some("the models of which sidecars are made, or the webhook, are not read yet")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_certificate_one_is_ready_only_while_another_leads_that_makes_none() {
        let readiness = Readiness::waiting_for(1, true, None, CancellationToken::new());
        readiness.stands_by();
        assert!(readiness.missing().is_some(), "it is not known whether there is a certificate");
        readiness.has_looked();
        assert_eq!(readiness.missing(), None);
        readiness.leads();
        assert!(readiness.missing().is_some(), "who leads makes one");
        readiness.serves();
        assert_eq!(readiness.missing(), None);
    }

    #[test]
    fn resources_are_read_by_who_does_not_stand_by() {
        let readiness = Readiness::waiting_for(1, false, None, CancellationToken::new());
        assert!(readiness.missing().is_some());
        readiness.one_is_ready();
        assert_eq!(readiness.missing(), None);
    }

    #[test]
    fn who_is_told_to_end_is_ready_no_more() {
        let stop = CancellationToken::new();
        let readiness = Readiness::waiting_for(0, false, None, stop.clone());
        assert_eq!(readiness.missing(), None);
        stop.cancel();
        assert!(readiness.missing().is_some());
    }
}
