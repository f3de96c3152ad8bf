//! The reconcilers of the two resources: `validate`, `render` and `status` are pure and hold no client; the `controller` is a thin shell
//! around them. `cllm up` runs the same pure half without a cluster. Beside them, on every replica, what is served over `https`: the
//! metrics `adapter` with its `authentication`, the `injection` of sidecars, and their `certificates`.

#![expect(clippy::doc_markdown, reason = "kinds of Kubernetes are written plainly, as in its own documentation")]

mod access;
pub mod adapter;
pub mod args;
pub mod authentication;
pub mod certificates;
mod claim;
pub mod conditions;
pub mod controller;
pub mod decimal;
pub mod election;
pub mod events;
pub mod failure;
pub mod https;
pub mod images;
pub mod injection;
pub mod location;
pub mod model;
pub mod naming;
mod pages;
pub mod pod;
pub mod rbac;
pub mod resources;
pub mod sharing;
pub mod training;

pub use images::Images;
pub use resources::{Applied, ModelResources, Prepared, StagedJob, TrainingResources};
