//! The public doors of the crate, over HTTP on loopback: a hub that behaves like the documented API (and misbehaves on demand), a real S3
//! server, a real OCI registry. `cllm_tests::sources` starts them, as it does for tests on clusters.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests, where a panic is a failure")]

mod failures;
mod gguf;
mod kill;
mod network;
mod oci;
mod s3;
mod support;
