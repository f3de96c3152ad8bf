//! Where checkpoints and data come from and results go to: a hub, S3, an OCI registry. Knows neither HTTP serving nor Kubernetes.
//!
//! [`fetch`] brings a source into a cache folder, completely or not at all; [`ResultStore`] brings a result out, its report last.

mod access;
mod cache;
mod connector;
mod error;
mod files;
mod http;
mod progress;
mod remote;
mod result_store;
mod retry;
mod source;

pub use access::{Access, DatasetAccess, ModelAccess, OutputAccess};
pub use cache::{Fetched, Freshness, Request, fetch};
pub use error::StorageError;
pub use progress::{Meter, Progress};
pub use remote::Wanted;
pub use result_store::ResultStore;
pub use retry::RetryPolicy;
pub use source::{Source, SourceError, is_remote};
