//! What can go wrong in a trainer, as sentences for people, and which exit code tells the caller whether to retry.

use std::path::{Path, PathBuf};

use cllm_engine::DeviceError;
use thiserror::Error;

use crate::divergence::Divergence;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a trainer stopped before it was done.
#[derive(Debug, Error)]
pub enum Failure {
    /// Arguments, data or checkpoints that no retry makes better.
    #[error("{0}")]
    BadInput(String),
    /// The run does not learn any more, and would not if it began again.
    #[error(transparent)]
    Diverged(#[from] Divergence),
    /// SIGTERM or SIGINT; nothing is lost.
    #[error("interrupted; what was done is kept: run the same command again to continue")]
    Interrupted,
    /// Another process of the same run is gone. Its own end counts, not this one's.
    #[error("{0}; start it again: the run goes on from its last checkpoint when all of its processes are there")]
    Lost(String),
    /// The processes of a run did not find each other, or do not agree.
    #[error("{0}")]
    Apart(String),
    /// Another process writes the same folder.
    #[error("{0} is in use by another process: wait for it, or give this one another folder")]
    Locked(PathBuf),
    /// A file could not be written: full disk, no permission, vanished volume.
    #[error(
        "cannot write {path}: {source}; make room or choose another folder and run the same command again: what was complete is unchanged"
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A place outside of this machine.
    #[error(transparent)]
    Storage(#[from] cllm_storage::StorageError),
    /// The differentiable forward.
    #[error("the computation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The inference engine.
    #[error("the engine failed: {0}")]
    Engine(String),
}

impl Failure {
    /// 2: do not retry; 75: retry without counting; 1: anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::BadInput(_) | Self::Diverged(_) => 2,
            // A Secret may be corrected before the next try.
            Self::Storage(error) if !error.retry_helps() && !error.is_about_credentials() => 2,
            Self::Interrupted | Self::Lost(_) => 75,
            Self::Apart(_)
            | Self::Locked(_)
            | Self::Write { .. }
            | Self::Storage(_)
            | Self::Tensor(_)
            | Self::Engine(_) => 1,
        }
    }

    /// For `map_err` on a write.
    pub fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write { path: path.to_owned(), source }
    }

    /// For `map_err` on the read of a file that the caller named.
    pub fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::BadInput(format!("cannot read {}: {source}; check the path", path.display()))
    }

    /// For `map_err` on anything of the engine that is not about input.
    pub fn engine(error: impl std::fmt::Display) -> Self {
        Self::Engine(error.to_string())
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Unknown(_) | DeviceError::NotCompiled(_) => Self::BadInput(error.to_string()),
            // the next node may have a GPU that answers
            DeviceError::Unavailable { .. } => Self::Engine(error.to_string()),
        }
    }
}

impl From<cllm_engine::CheckpointError> for Failure {
    fn from(error: cllm_engine::CheckpointError) -> Self {
        Self::BadInput(error.to_string())
    }
}
