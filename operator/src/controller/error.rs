//! What can go wrong in a reconciliation, and how it is handled.

use std::time::Duration;

use cllm_crds::conditions::reasons;

use crate::{model, training};

/// What can go wrong in a reconciliation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("failed to {verb} {object}: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// `Kind name`.
        object: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// The spec contradicts itself.
    #[error(transparent)]
    InvalidTraining(#[from] training::ValidationError),
    /// The spec contradicts itself.
    #[error(transparent)]
    InvalidModel(#[from] model::ValidationError),
    /// An object of that name belongs to someone else.
    #[error("{object} exists and does not belong to this resource: rename or delete one of the two")]
    NameConflict {
        /// `Kind name`.
        object: String,
    },
    /// An object of that name is being deleted.
    #[error("{object} of an earlier resource of that name is still being deleted")]
    BeingDeleted {
        /// `Kind name`.
        object: String,
    },
    /// A resource outside of a namespace, or without a name: the API server makes none.
    #[error("the resource has no name or namespace")]
    Nameless,
}

/// How an error is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Nothing more happens until a person changes something; the status says so.
    Stalled {
        /// The reason of the condition.
        reason: &'static str,
    },
    /// It passes by itself.
    Waiting(Duration),
    /// It is tried again, at growing intervals.
    Failed,
}

impl Handling {
    /// The reason of the conditions that tell of the error.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Stalled { reason } => reason,
            Self::Waiting(_) => reasons::PROGRESSING,
            Self::Failed => reasons::API_ERROR,
        }
    }
}

impl Error {
    /// How it is handled.
    pub fn handling(&self) -> Handling {
        match self {
            Self::InvalidTraining(_) | Self::InvalidModel(_) => Handling::Stalled { reason: reasons::INVALID_SPEC },
            Self::NameConflict { .. } => Handling::Stalled { reason: reasons::NAME_CONFLICT },
            Self::Api { source, .. } if is_refusal(source) => Handling::Stalled { reason: reasons::API_ERROR },
            Self::BeingDeleted { .. } => Handling::Waiting(Duration::from_secs(5)),
            Self::Api { .. } | Self::Nameless => Handling::Failed,
        }
    }

    /// Wraps an error of the API.
    pub(crate) fn api(verb: &'static str, object: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let object = object.into();
        move |source| Self::Api { verb, object, source: Box::new(source) }
    }

    /// A word for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self.handling() {
            Handling::Stalled { .. } => "stalled",
            Handling::Waiting(_) => "waiting",
            Handling::Failed => "failed",
        }
    }
}

/// Whether trying the same again is pointless: the object is invalid, or this namespace does not allow it.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_invalid() || status.is_forbidden())
}
