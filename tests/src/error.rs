//! What can go wrong with the test cluster, each as a sentence that says what to look at.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// Why the test cluster could not be started or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `build.sh` left no programs; its own words went to stderr.
    #[error("failed to build the test cluster's programs: {script} ended with {status}; what it said is above")]
    Build {
        /// The script, relative to this crate.
        script: &'static str,
        /// How it ended.
        status: ExitStatus,
    },

    /// A file, folder, port or process of the cluster could not be had.
    #[error("failed to {action}")]
    Io {
        /// What was tried, as a verb and its object.
        action: String,
        /// What the system answered.
        source: io::Error,
    },

    /// A certificate or key could not be made.
    #[error("failed to make the certificate of {subject}")]
    Certificate {
        /// Whose certificate.
        subject: &'static str,
        /// What the certificate library answered.
        source: rcgen::Error,
    },

    /// A program of the cluster ended by itself while it was needed.
    #[error("{program} ended with {status} during start-up; its folder is kept at {folder}; its last lines:\n{log}", folder = folder.display())]
    Ended {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The folder with the logs.
        folder: PathBuf,
        /// The last lines of the program's log.
        log: String,
    },

    /// The cluster did not become ready in time.
    #[error("{program} was not ready within {waited:?} ({last}); its folder is kept at {folder}; its last lines:\n{log}", folder = folder.display())]
    NotReady {
        /// The program that was waited for.
        program: &'static str,
        /// How long.
        waited: Duration,
        /// What the last probe said.
        last: String,
        /// The folder with the logs.
        folder: PathBuf,
        /// The last lines of the program's log.
        log: String,
    },

    /// Namespaces are root's to make.
    #[error("a cluster with nodes makes network, mount and process namespaces and control groups: run this as root")]
    NotRoot,

    /// `network.sh` failed.
    #[error("failed to make the network of the cluster's nodes: {said}")]
    Network {
        /// What it wrote to stderr.
        said: String,
    },

    /// `kubectl` or `helm` refused or failed.
    #[error("`{name} {arguments}` ended with {status}:\n{stderr}")]
    Program {
        /// The program.
        name: &'static str,
        /// The arguments, joined by spaces.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// All it wrote to stderr.
        stderr: String,
    },

    /// The kubeconfig that was just written cannot be read back.
    #[error("failed to read the cluster's kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),

    /// A request to the API server failed.
    #[error("failed to {action}")]
    Request {
        /// What was tried, as a verb and its object.
        action: String,
        /// What the client or the API server answered.
        source: Box<kube::Error>,
    },

    /// A binary of this tree is not there.
    #[error("{name} is missing: run `cargo build --workspace --bins`")]
    NoBinary {
        /// The binary.
        name: String,
    },

    /// The images of this tree are not there.
    #[error("there are no image archives in {folder}: run `cargo run -p xtask -- images --profile dev`", folder = folder.display())]
    NoImages {
        /// Where they were expected.
        folder: PathBuf,
    },

    /// Something awaited did not come.
    #[error(transparent)]
    TimedOut(#[from] crate::TimedOut),
}

impl Error {
    /// For `map_err`: an input or output error with what was tried.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// For `map_err`: a refused or failed request with what was tried.
    pub(crate) fn request(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Request { action, source: Box::new(source) }
    }
}
