//! The door at which the API server asks. Nothing is read of a request that comes without the key, and nothing is changed by any: what is
//! asked for a dry run is answered like everything else.

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde_json::Value;
use tokio::sync::watch;

use crate::images::Images;
use crate::injection::key::Registration;
use crate::injection::models::Models;
use crate::injection::refusal::Refusal;
use crate::injection::review::{Answer, Outcome, Review, answer};

/// The API server takes no larger object, and asks with one or two of them.
const MAX_REVIEW_BYTES: usize = 8 << 20;

/// What an answer depends on.
#[derive(Clone, Debug)]
pub struct Injector {
    models: Models,
    images: Images,
    registration: watch::Receiver<Registration>,
}

impl Injector {
    /// For these models; `images` are those of specs that name none.
    pub fn new(models: Models, images: Images, registration: watch::Receiver<Registration>) -> Self {
        Self { models, images, registration }
    }

    /// Whether it can answer, and knows whom: before, Pods are made without a sidecar and told of later.
    pub fn is_ready(&self) -> bool {
        self.models.are_read() && *self.registration.borrow() != Registration::Unread
    }

    fn opens_for(&self, text: &str) -> bool {
        matches!(&*self.registration.borrow(), Registration::Known(key) if key.is(text))
    }

    fn answer(&self, review: &Review) -> Answer {
        answer(&review.request, &self.images, |namespace, name| {
            if !self.models.are_read() {
                return Err(Refusal::NotReady);
            }
            let missing = || Refusal::NoModel { namespace: namespace.to_owned(), name: name.to_owned() };
            self.models.get(namespace, name).ok_or_else(missing)
        })
    }
}

/// `POST /inject/KEY`. An answer to a review has its [`Outcome`] among its extensions.
pub fn router(injector: Injector) -> Router {
    Router::new()
        .route("/inject/{key}", post(inject))
        .route_layer(from_fn_with_state(injector.clone(), require_key))
        .layer(DefaultBodyLimit::max(MAX_REVIEW_BYTES))
        .with_state(injector)
}

async fn require_key(
    State(injector): State<Injector>,
    Path(key): Path<String>,
    request: Request,
    next: Next,
) -> Response {
    if injector.opens_for(&key) { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

async fn inject(State(injector): State<Injector>, Json(review): Json<Review>) -> (Extension<Outcome>, Json<Value>) {
    let Answer { review, outcome } = injector.answer(&review);
    (Extension(outcome), Json(review))
}
