//! What can go wrong with a request, and the one place where it becomes an OpenAI error object and a status code.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Seconds that a client should wait after a refusal for want of room.
const RETRY_SOON: u32 = 1;
/// Seconds that a client should wait while the model loads.
const RETRY_AFTER_LOADING: u32 = 5;

/// A request that is not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The body is not a JSON object.
    #[error("the body is not a JSON object: {0}. Send one, for example {{\"model\": \"…\", \"prompt\": \"…\"}}.")]
    InvalidJson(String),
    /// A field has a value that is malformed or not honored.
    #[error("{message}")]
    InvalidField {
        /// The name of the field.
        field: String,
        /// A sentence: what was found and what is allowed.
        message: String,
    },
    /// Prompt and answer do not fit.
    #[error(
        "the prompt has {prompt} tokens and max_tokens asks for {max_tokens} more, but the context of this model has {context} \
         tokens. Shorten the prompt or lower max_tokens."
    )]
    ContextLength {
        /// The field with the prompt.
        field: &'static str,
        /// Its length in tokens.
        prompt: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// The limit of their sum.
        context: usize,
    },
    /// No key, or none that is known.
    #[error("the API key is missing or not known. Send it as `Authorization: Bearer KEY`.")]
    Unauthorized,
    /// Another model is asked for.
    #[error("the model {asked:?} is not served here. This server has {served:?}.")]
    ModelNotFound {
        /// The model of the request.
        asked: String,
        /// The one there is.
        served: String,
    },
    /// No such path.
    #[error("there is nothing at {method} {path}. The API is at /v1/models, /v1/completions and /v1/chat/completions.")]
    NotFound {
        /// The method of the request.
        method: String,
        /// Its path.
        path: String,
    },
    /// The path exists, but not with this method.
    #[error("{path} does not take {method}. See the Allow header.")]
    MethodNotAllowed {
        /// The method of the request.
        method: String,
        /// Its path.
        path: String,
    },
    /// More bytes than are read.
    #[error("the body is larger than the {limit} bytes that are allowed.")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is not declared as JSON.
    #[error("the Content-Type is {found}, but application/json is needed.")]
    UnsupportedMediaType {
        /// The header, or a word for its absence.
        found: String,
    },
    /// Every slot and every place in the queue is taken.
    #[error(
        "{in_system} requests are running or waiting already, which is all that this server takes. Try again shortly."
    )]
    QueueFull {
        /// Requests running and waiting.
        in_system: usize,
    },
    /// The model is not in memory yet.
    #[error("the model is still loading. Try again shortly.")]
    Loading,
    /// `--on-missed-gate=Block` keeps this server from answering.
    #[error(
        "this server does not answer: {0}. Lower --min-speedup (spec.gates.minSpeedup) or choose another --on-missed-gate \
         (spec.gates.onFailure), or serve another checkpoint."
    )]
    Blocked(String),
    /// The checkpoint is not here yet.
    #[error("the model is being downloaded: {bytes_done} of {bytes_total} bytes. Try again later.")]
    Downloading {
        /// Bytes on the disk.
        bytes_done: u64,
        /// Bytes altogether.
        bytes_total: u64,
    },
    /// SIGTERM was received.
    #[error("the server is shutting down and takes no new requests. Try again: another replica may answer.")]
    Draining,
    /// The answer was cut by the end of the server.
    #[error("the server shut down before the answer was complete. Try again.")]
    CutOff,
    /// The engine failed in this request.
    #[error("the answer could not be generated: {0}.")]
    Generation(String),
}

/// The wire form of an error: `{"error": {message, type, param, code}}`.
#[derive(Debug, Serialize)]
pub struct ErrorBody {
    error: ErrorObject,
}

#[derive(Debug, Serialize)]
struct ErrorObject {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

impl ApiError {
    /// An [`ApiError::InvalidField`].
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), message: message.into() }
    }

    /// The OpenAI error object, also used inside of streams.
    pub fn body(&self) -> ErrorBody {
        let (status, code) = self.status_and_code();
        let r#type = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "service_unavailable_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        ErrorBody { error: ErrorObject { message: self.to_string(), r#type, param: self.param(), code } }
    }

    /// The status of a response that consists of this error.
    pub fn status(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn status_and_code(&self) -> (StatusCode, Option<&'static str>) {
        match self {
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, Some("invalid_json")),
            Self::InvalidField { .. } => (StatusCode::BAD_REQUEST, Some("invalid_value")),
            Self::ContextLength { .. } => (StatusCode::BAD_REQUEST, Some("context_length_exceeded")),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, Some("invalid_api_key")),
            Self::ModelNotFound { .. } => (StatusCode::NOT_FOUND, Some("model_not_found")),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, Some("not_found")),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, Some("method_not_allowed")),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Some("body_too_large")),
            Self::UnsupportedMediaType { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("unsupported_media_type")),
            Self::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, Some("queue_full")),
            Self::Loading | Self::Downloading { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some("model_loading")),
            Self::Blocked(_) => (StatusCode::SERVICE_UNAVAILABLE, Some("gate_missed")),
            Self::Draining | Self::CutOff => (StatusCode::SERVICE_UNAVAILABLE, Some("shutting_down")),
            Self::Generation(_) => (StatusCode::INTERNAL_SERVER_ERROR, Some("generation_failed")),
        }
    }

    fn param(&self) -> Option<String> {
        match self {
            Self::InvalidField { field, .. } => Some(field.clone()),
            Self::ContextLength { field, .. } => Some((*field).to_owned()),
            Self::ModelNotFound { .. } => Some("model".to_owned()),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::QueueFull { .. } | Self::Draining | Self::CutOff => Some(RETRY_SOON),
            Self::Loading | Self::Downloading { .. } => Some(RETRY_AFTER_LOADING),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::Unauthorized) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self, Self::Draining | Self::CutOff) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
