//! API keys: read from a file at the start, compared in constant time. Everything under `/v1` asks for one where there are any.

use std::{path::Path, sync::Arc};

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::Response,
};
use subtle::{Choice, ConstantTimeEq};

use crate::{error::ApiError, state::App};

/// The keys that are accepted; none means that everybody may ask.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<String>);

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ApiKeys({})", self.0.len())
    }
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("the API key file {path} cannot be read: {source}. Check --api-key-file.")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It has no key, which would lock everybody out or let everybody in.
    #[error("the API key file {0} has no key. Put one key on each line, or leave --api-key-file away.")]
    Empty(String),
}

impl ApiKeys {
    /// One key a line; empty lines do not count.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| KeyFileError::Unreadable { path: name.clone(), source })?;
        let keys: Vec<String> = text.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        if keys.is_empty() { Err(KeyFileError::Empty(name)) } else { Ok(Self(keys)) }
    }

    /// Whether the value of an `Authorization` header lets a request in.
    pub fn accept(&self, authorization: Option<&[u8]>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(key) = authorization.and_then(bearer) else { return false };
        let equal = |known: &String| known.as_bytes().ct_eq(key);
        self.0.iter().map(equal).fold(Choice::from(0), |any, this| any | this).into()
    }
}

fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = authorization.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

/// Refuses requests without a known key.
pub async fn require_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let header = request.headers().get(header::AUTHORIZATION);
    if app.settings.keys.accept(header.map(axum::http::HeaderValue::as_bytes)) {
        Ok(next.run(request).await)
    } else {
        Err(ApiError::Unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_whole() {
        let keys = ApiKeys(vec!["first-key".to_owned(), "second-key".to_owned()]);
        for (header, expected) in [
            (Some("Bearer first-key"), true),
            (Some("bearer  second-key "), true),
            (Some("Bearer first-ke"), false),
            (Some("Bearer first-key2"), false),
            (Some("Bearer "), false),
            (Some("Basic first-key"), false),
            (Some("first-key"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(keys.accept(header.map(str::as_bytes)), expected, "{header:?}");
        }
        assert!(ApiKeys::default().accept(None));
    }
}
