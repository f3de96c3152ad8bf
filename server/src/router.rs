//! The routes of both listeners.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{Method, StatusCode, Uri, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;

use crate::{
    authentication::require_key,
    error::ApiError,
    metrics::CONTENT_TYPE,
    openai::{chat, completions, extract::MAX_BODY_BYTES, models},
    state::App,
    status::status,
};

/// The OpenAI API and the probes.
pub fn http(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/v1/completions", post(completions::create))
        .route("/v1/chat/completions", post(chat::create))
        .route_layer(from_fn_with_state(Arc::clone(&app), require_key))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    finish(api.merge(probes()).route("/health", get(ready)), app)
}

/// Figures for machines, and the probes, for a kubelet that does not reach the API. Never asks for a key: the port is not for clients.
pub fn metrics(app: Arc<App>) -> Router {
    let pages = Router::new().route("/metrics", get(metrics_page)).route("/status", get(status_page));
    finish(pages.merge(probes()), app)
}

fn probes() -> Router<Arc<App>> {
    Router::new().route("/livez", get(live)).route("/startupz", get(started)).route("/readyz", get(ready))
}

fn finish(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router.fallback(not_found).method_not_allowed_fallback(method_not_allowed).with_state(app)
}

async fn live(State(app): State<Arc<App>>) -> Response {
    if app.is_alive() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the engine thread is dead or hangs\n").into_response()
    }
}

/// The model is loaded and measured, whether or not it may answer.
async fn started(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    app.loaded().map(|_| "ok\n").ok_or(ApiError::Loading)
}

async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    app.serving().map(|_| "ok\n")
}

async fn metrics_page(State(app): State<Arc<App>>) -> Response {
    match app.metrics.render(app.load()) {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status_page(State(app): State<Arc<App>>) -> Response {
    Json(status(&app, Timestamp::now())).into_response()
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::NotFound { method: method.to_string(), path: uri.path().to_owned() }
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned() }
}
