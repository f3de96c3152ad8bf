//! The one HTTPS port of the operator, served by every replica: metrics for autoscalers ([`crate::adapter`]) and the injection of sidecars
//! ([`crate::injection`]).
//!
//! What is served is a router of each; this module knows TLS, connections and health, and nothing of models.

mod refusal;
mod serve;
mod settings;
mod tls;

use axum::Router;
use axum::routing::get;

pub use refusal::Refusal;
pub use serve::{Closing, PeerCertificates, serve};
pub use settings::HttpsSettings;
pub use tls::{TlsError, configuration};

/// All that is served. Each part is absent where it is turned off.
///
/// - `adapter`: [`crate::adapter::router()`], below `/apis`.
/// - `injection`: [`crate::injection::router()`], at `POST /inject/KEY`.
pub fn routes(adapter: Option<Router>, injection: Option<Router>) -> Router {
    let health = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(async || "ok"));
    health
        .merge(adapter.unwrap_or_default())
        .merge(injection.unwrap_or_default())
        .fallback(async || Refusal::not_found("the server could not find the requested resource"))
        .method_not_allowed_fallback(async || Refusal::method_not_allowed())
}
