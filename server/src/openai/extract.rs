//! Reads the body of a request as a JSON object, with our errors instead of axum's.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Most bytes of a body: many times the text that fits any context.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// The object of a request.
pub struct JsonObject(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let message = rejection.body_text();
            match rejection.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge { limit: MAX_BODY_BYTES },
                _ => ApiError::InvalidJson(message),
            }
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| ApiError::InvalidJson(error.to_string()))
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(ApiError::UnsupportedMediaType { found: "missing".to_owned() });
    };
    let found = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json { Ok(()) } else { Err(ApiError::UnsupportedMediaType { found }) }
}
