//! What can go wrong between this machine and a source, as sentences for people, and whether another try can help.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of everything in this crate.
pub(crate) type Result<T> = std::result::Result<T, StorageError>;

/// Why something was not fetched or stored. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The URI means nothing.
    #[error(transparent)]
    Source(#[from] crate::SourceError),
    /// An endpoint, region, proxy or CA bundle that cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// A credentials folder without what the source needs.
    #[error("the credentials in {folder} cannot be used: {problem}")]
    Credentials {
        /// The folder.
        folder: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The other side said no, and will say so again.
    #[error("{asked} was answered with {status}: {advice}")]
    Refused {
        /// Method and address, without query.
        asked: String,
        /// The status line.
        status: String,
        /// What to do.
        advice: String,
    },
    /// The other side could not be reached, broke off, or is overloaded.
    #[error("{asked} failed: {problem}; check the address and the network, or try again later")]
    Unavailable {
        /// Method and address, without query.
        asked: String,
        /// What happened.
        problem: String,
        /// How long the other side wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that makes no sense.
    #[error("{asked} was answered with something unexpected: {problem}")]
    Unexpected {
        /// Method and address, without query.
        asked: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// The file is another one than when it was listed.
    #[error("{file} changed while it was downloaded; try again, and name a fixed revision so that it cannot change")]
    Changed {
        /// The file.
        file: String,
    },
    /// The content is not what it was said to be.
    #[error(
        "{file} has the sha256 {found}, but {expected} was announced; it was deleted. Try again; if it stays so, the source is damaged"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// Announced.
        expected: String,
        /// Computed.
        found: String,
    },
    /// The source is there, but holds nothing for us.
    #[error("{place} {problem}")]
    Unusable {
        /// The source.
        place: String,
        /// What is missing and what to do.
        problem: String,
    },
    /// The volume is too small.
    #[error(
        "{needed} bytes are still to be written to {folder}, but only {free} are free there; make room or use a larger volume"
    )]
    NoSpace {
        /// The cache.
        folder: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// No `flock` on this volume.
    #[error(
        "{path} cannot be locked ({source}): the file system must support flock (local ones and NFSv4 do), or two replicas would \
         download over each other; use another volume for the cache"
    )]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot use {path}: {source}; check permissions and free space")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something of a result is there already, and differs.
    #[error("{place} exists already with other content, and results are never overwritten; name another output")]
    Exists {
        /// The object.
        place: String,
    },
}

impl StorageError {
    /// Whether the same call may work later without anybody changing anything.
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Changed { .. }
            | Self::Corrupt { .. }
            | Self::NoSpace { .. }
            | Self::File { .. } => true,
            Self::Source(_)
            | Self::Configuration(_)
            | Self::Credentials { .. }
            | Self::Refused { .. }
            | Self::Unexpected { .. }
            | Self::Unusable { .. }
            | Self::NoLocks { .. }
            | Self::Exists { .. } => false,
        }
    }

    /// Whether other credentials may bring another answer. They are read at every use, and a person may correct them at any time.
    pub fn is_about_credentials(&self) -> bool {
        match self {
            Self::Credentials { .. } => true,
            Self::Refused { status, .. } => status.starts_with("401") || status.starts_with("403"),
            _ => false,
        }
    }

    /// For `map_err` on a file.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), source }
    }

    /// For `map_err` on whatever breaks a connection.
    pub(crate) fn unavailable(asked: &str, problem: impl std::fmt::Display) -> Self {
        Self::Unavailable { asked: asked.to_owned(), problem: problem.to_string(), retry_after: None }
    }

    /// For answers that make no sense.
    pub(crate) fn unexpected(asked: &str, problem: impl std::fmt::Display) -> Self {
        Self::Unexpected { asked: asked.to_owned(), problem: problem.to_string() }
    }
}
