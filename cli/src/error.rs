//! What ends a command: one sentence for a person and one exit code for a script.

use std::path::PathBuf;
use std::process::ExitCode;

use cllm_engine::CheckpointError;

use crate::bench::BenchError;
use crate::chat::ChatError;
use crate::documents::DocumentError;
use crate::local::LocalError;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The YAML is not acceptable.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Local mode could not start or go on.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The measurement could not be made.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The checkpoint cannot be read, or not be written in the other format.
    #[error(transparent)]
    Export(#[from] CheckpointError),
    /// A file could not be written.
    #[error("cannot write {path}: {source}; check that the folder exists and that the disk is not full")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system refused what every program needs.
    #[error("cannot start the asynchronous runtime: {0}")]
    Runtime(std::io::Error),
}

impl CliError {
    pub(crate) fn runtime(source: std::io::Error) -> Self {
        Self::Runtime(source)
    }

    /// 2 for input that is wrong however often it is tried, 1 for anything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let is_input = match self {
            Self::Document(_) => true,
            Self::Export(error) => !matches!(error, CheckpointError::Access { .. }),
            Self::Local(error) => error.is_input(),
            Self::Bench(error) => error.is_input(),
            Self::Chat(_) | Self::Write { .. } | Self::Runtime(_) => false,
        };
        ExitCode::from(if is_input { 2 } else { 1 })
    }
}
