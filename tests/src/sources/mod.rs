//! The servers that checkpoints and data come from and results go to: a real S3 server, a real registry, and a hub that behaves like the
//! documented API (and misbehaves on demand). On loopback for the tests of `storage/`; where Pods reach this machine for those on clusters
//! ([`Cluster::address`](crate::Cluster::address)).

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "servers of tests: a panic ends the request, and with it the test"
)]

mod hub;
mod registry;
mod server;
mod tls;
mod wire;

use std::collections::BTreeMap;

pub use hub::{Asked, COMMIT, Hub, Mishap};
pub use registry::{PASSWORD, Pusher, USERNAME, registry};
pub use server::{ACCESS_KEY, SECRET_KEY, Server, s3};
pub use tls::serve_encrypted;
pub use wire::Wire;

/// Names and contents.
pub type Files = BTreeMap<String, Vec<u8>>;
