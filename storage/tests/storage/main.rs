//! The public doors of the crate, over HTTP on loopback: a hub that behaves like the documented API (and misbehaves on demand), a real S3
//! server, a real OCI registry.
//!
//! The two real servers are built by `tests/cluster/build.sh`, once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests, where a panic is a failure")]

mod failures;
mod hub;
mod kill;
mod network;
mod oci;
mod programs;
mod s3;
mod support;
mod tls;
