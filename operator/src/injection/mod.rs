//! The sidecar: a Pod that asks for a CllmModel of its namespace gets a server of it beside its own containers, on loopback.
//!
//! [`inject()`] decides purely what changes about a Pod, [`answer`] what the API server is told, [`missed()`] which Pods lack their sidecar. The
//! [`router()`] is asked by the API server through a MutatingWebhookConfiguration; it answers on every operator, whoever leads.

mod inject;
mod key;
mod missed;
mod models;
mod refusal;
mod review;
mod router;
mod sidecar;

pub use inject::{API_KEY_VARIABLE, BASE_URL_VARIABLE, inject};
pub use key::{Key, Registration, WEBHOOK, registration};
pub use missed::{Missed, REASON, missed};
pub use models::Models;
pub use refusal::Refusal;
pub use review::{Answer, Outcome, Request, Review, answer};
pub use router::{Injector, router};
pub use sidecar::CONTAINER;
