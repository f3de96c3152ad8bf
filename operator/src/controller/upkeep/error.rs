//! What goes wrong with what the API server is told.

use crate::certificates::IssueError;

/// What went wrong; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpkeepError {
    #[error("failed to {verb} {object}: {source}")]
    Api { verb: &'static str, object: String, source: Box<kube::Error> },
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl UpkeepError {
    /// A request about that object.
    pub(super) fn api(verb: &'static str, object: String) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { verb, object, source: Box::new(source) }
    }
}
