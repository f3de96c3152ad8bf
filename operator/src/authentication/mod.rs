//! Who asks, and whether they may: what the API server delegates to servers behind it
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>).
//!
//! Without it every Pod could read, and claim to be, anybody. In this order: a client certificate of the front proxy, which may say for whom
//! it asks in headers; a client certificate of the cluster; a bearer token, which the API server reviews. Headers count for nothing without
//! the front proxy's certificate. Then the API server is asked whether that identity may. Wherever there is a doubt the answer is no.

mod answers;
mod authorities;
mod certificate;
mod configuration;
mod follow;
mod gate;
mod identity;
mod review;

pub use authorities::Authorities;
pub use certificate::ClientCertificate;
pub use configuration::{Configuration, FrontProxy};
pub use follow::follow;
pub use gate::{Caller, Gate};
pub use identity::{ALL_AUTHENTICATED, Claim, Identity, claim};
pub use review::Attributes;

/// The namespace of the ConfigMap in which the API server says whom to trust.
pub const CONFIGURATION_NAMESPACE: &str = "kube-system";
/// Its name.
pub const CONFIGURATION_NAME: &str = "extension-apiserver-authentication";
