//! The test cluster and what tests need to use it.
//!
//! No test here talks to a mock of the API server: [`ControlPlane`] is a real Kubernetes (etcd,
//! kube-apiserver, kube-controller-manager), built from its published Go modules by
//! `cluster/build.sh` and started on loopback in a few seconds. Without a kubelet no pod runs; a
//! test plays the kubelet by writing the pod's status.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cllm_tests::{ControlPlane, TestNamespace};
//! use k8s_openapi::api::core::v1::ConfigMap;
//!
//! let cluster = ControlPlane::shared().await?; // one for all tests of this process
//! let namespace = TestNamespace::create(cluster, "example").await?; // deleted when dropped
//! let config_maps = namespace.api::<ConfigMap>().list(&Default::default()).await?;
//! # Ok(()) }
//! ```

mod audit;
mod certificates;
mod cluster;
mod control_plane;
mod error;
mod flags;
mod forward;
mod images;
mod namespace;
mod network;
mod node;
mod process;
pub mod product;
mod program;
mod programs;
mod ready;
mod shared_folders;
pub mod sources;
mod wait;

pub use audit::Write;
pub use cluster::Cluster;
pub use control_plane::ControlPlane;
pub use error::Error;
pub use forward::Forward;
pub use images::images;
pub use namespace::TestNamespace;
pub use program::ProgramOutput;
pub use ready::ReadySampler;
pub use wait::{TimedOut, eventually, eventually_object};
