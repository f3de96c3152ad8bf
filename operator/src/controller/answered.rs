//! Counts what is answered over HTTPS, by how it ended.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use crate::controller::metrics::Metrics;
use crate::injection::Outcome;

/// The router of the adapter, whose answers are counted.
pub(super) fn count_requests(adapter: Router, metrics: &Metrics) -> Router {
    adapter.route_layer(from_fn_with_state(metrics.clone(), count_request))
}

/// The router of the webhook, whose answers are counted.
pub(super) fn count_reviews(injection: Router, metrics: &Metrics) -> Router {
    injection.route_layer(from_fn_with_state(metrics.clone(), count_review))
}

async fn count_request(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let of = if request.uri().path().contains("/namespaces/") { "figures" } else { "discovery" };
    let response = next.run(request).await;
    metrics.answered_request(of, outcome_of_request(response.status()));
    response
}

async fn count_review(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    metrics.answered_review(outcome_of_review(&response));
    response
}

fn outcome_of_request(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "refused",
        StatusCode::NOT_FOUND => "absent",
        status if status.is_success() => "answered",
        status if status.is_client_error() => "invalid",
        _ => "failed",
    }
}

fn outcome_of_review(response: &Response) -> &'static str {
    match response.extensions().get::<Outcome>() {
        Some(Outcome::Injected) => "injected",
        Some(Outcome::Untouched) => "untouched",
        Some(Outcome::Refused) => "refused",
        Some(Outcome::NotReady) => "not_ready",
        // Nothing is looked at of a request without the key.
        None if response.status() == StatusCode::NOT_FOUND => "without_key",
        None => "invalid",
    }
}
