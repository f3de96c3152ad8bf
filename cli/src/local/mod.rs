//! Local mode: the Pods that the operator renders, as child processes of `cllm up`, with the same probes and the same status.
//!
//! Nothing here renders: what is not in the rendered objects is not done.

mod claims;
mod executor;
mod job;
mod launch;
mod plan;
mod probe;
mod process;
mod report;
mod reporter;
pub(crate) mod run;
mod servers;
mod session;
mod state;
mod supervise;
mod table;
mod translate;

use std::path::PathBuf;

use translate::TranslateError;

/// Why local mode could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// A folder or a file in it could not be made, read or written.
    #[error("cannot use {path}: {source}; check the path, its permissions and the free space")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Someone else works there.
    #[error(
        "another `cllm up` (process {pid}) works in {path}; stop it, or give this one a folder of its own with --workdir"
    )]
    Locked {
        /// The working folder.
        path: PathBuf,
        /// Its process id.
        pid: String,
    },
    /// `state.json` is not ours.
    #[error("{path} cannot be read: {problem}; delete it to start all stages again")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A result that someone removed.
    #[error(
        "{object} is complete, but its result is not at {path} any more; put it back, or delete state.json to train again"
    )]
    Gone {
        /// The training.
        object: String,
        /// Where its result was.
        path: PathBuf,
    },
    /// A claim that stands for a folder that is not there.
    #[error(
        "the claim '{claim}' stands for {path}, which does not exist; create it, or name another folder with --claim {claim}=DIR"
    )]
    ClaimFolder {
        /// The claim.
        claim: String,
        /// Its folder.
        path: PathBuf,
    },
    /// A Secret or `ConfigMap` that stands for a folder that is not there.
    #[error("{path} stands for a Secret or ConfigMap, but does not exist; create it with one file for each key")]
    ObjectFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A Pod that has no counterpart on this machine.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// A binary is missing.
    #[error(
        "cannot find {program}: it is neither beside cllm nor on PATH; build it with `cargo build --release --workspace`"
    )]
    Program {
        /// Its name.
        program: String,
    },
    /// A binary does not start.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// Its path.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The asked-for port is taken.
    #[error("port {port} of 127.0.0.1 is taken; choose another with --http-port, or leave it out")]
    Port {
        /// The port.
        port: u16,
    },
    /// No port is free.
    #[error("cannot find a free port on 127.0.0.1: {0}")]
    NoPort(std::io::Error),
    /// A stage, a model or a gate failed: the text says it all.
    #[error("{0}")]
    Failed(String),
}

impl LocalError {
    /// Wrong however often it is tried.
    pub(crate) fn is_input(&self) -> bool {
        match self {
            Self::Translate(_) | Self::ClaimFolder { .. } | Self::ObjectFolder { .. } => true,
            Self::Folder { .. }
            | Self::Locked { .. }
            | Self::State { .. }
            | Self::Program { .. }
            | Self::Spawn { .. }
            | Self::Gone { .. }
            | Self::Port { .. }
            | Self::NoPort(_)
            | Self::Failed(_) => false,
        }
    }
}
