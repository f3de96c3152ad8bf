//! Why a Pod gets no sidecar. It is made all the same.

use crate::model::ValidationError;
use crate::naming::{INJECT_LABEL, PORT_ANNOTATION};
use crate::pod::METRICS_PORT;

/// Why a Pod gets no sidecar; each sentence says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something else than a Pod, or one that the API server will refuse.
    #[error("this is no Pod with containers: give it at least one")]
    NotAPod,
    /// The label has no value.
    #[error("the label {INJECT_LABEL} is empty: write the name of a CllmModel of this namespace")]
    NoName,
    /// This operator has just started.
    #[error("the operator had not read the CllmModels yet: nothing is wrong with the Pod")]
    NotReady,
    /// No model of that name.
    #[error("namespace {namespace} has no CllmModel {name}: create it, or correct the label {INJECT_LABEL}")]
    NoModel {
        /// Where it was looked for.
        namespace: String,
        /// What the label says.
        name: String,
    },
    /// The model's spec contradicts itself.
    #[error("CllmModel {name} is refused: {source}")]
    InvalidModel {
        /// Its name.
        name: String,
        /// What is wrong.
        source: ValidationError,
    },
    /// The model follows trainings that have no result.
    #[error("CllmModel {name} has no checkpoint to serve yet: {message}")]
    NothingToServe {
        /// Its name.
        name: String,
        /// Why, and what to do.
        message: String,
    },
    /// No port for a program that is not root.
    #[error(
        "the annotation {PORT_ANNOTATION} is `{found}`: write a port from 1024 to 65535 other than {METRICS_PORT}, on which the sidecar \
         tells how it is"
    )]
    Port {
        /// What the annotation says.
        found: String,
    },
    /// A container of the Pod listens where the sidecar's API would.
    #[error(
        "container {container} has port {port}, which is to be the sidecar's: choose another with the annotation {PORT_ANNOTATION}"
    )]
    PortTaken {
        /// Whose port it is.
        container: String,
        /// Its number.
        port: u16,
    },
    /// A container of the Pod listens where the sidecar's probes would.
    #[error(
        "container {container} has port {METRICS_PORT}, on which the sidecar tells how it is: give the container another port"
    )]
    MetricsPortTaken {
        /// Whose port it is.
        container: String,
    },
    /// Loopback would be the node's.
    #[error(
        "the Pod is in the network of its node (hostNetwork), where everyone would reach the model: leave hostNetwork out"
    )]
    HostNetwork,
    /// A container or volume of the Pod's own is called like one of the sidecar's.
    #[error("the Pod has a {kind} {name} of its own, as the sidecar's is called: rename it")]
    NameTaken {
        /// `container` or `volume`.
        kind: &'static str,
        /// What it is called.
        name: String,
    },
}
