//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};

use super::types::{Model, ModelList};
use crate::{
    error::ApiError,
    state::{App, Loaded},
};

/// The one model there is.
pub async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let data = vec![model(&app, app.serving()?)];
    Ok(Json(ModelList { object: "list", data }).into_response())
}

/// A model by its name, which may contain slashes.
pub async fn retrieve(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let loaded = app.serving()?;
    if id == app.settings.served_name {
        Ok(Json(model(&app, loaded)).into_response())
    } else {
        Err(ApiError::ModelNotFound { asked: id, served: app.settings.served_name.clone() })
    }
}

fn model<'a>(app: &'a App, loaded: &Loaded) -> Model<'a> {
    Model {
        id: &app.settings.served_name,
        object: "model",
        created: app.created,
        owned_by: "cllm",
        max_model_len: loaded.description.context_length,
    }
}
