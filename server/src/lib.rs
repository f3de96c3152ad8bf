//! The OpenAI HTTP server over the engine. Everything that decodes is in the engine, everything about Kubernetes elsewhere.

pub mod args;
pub mod authentication;
pub mod backend;
pub mod capacity;
mod download;
pub mod engine;
pub mod error;
pub mod gate;
mod kv_memory;
pub mod measure;
pub mod metrics;
pub mod openai;
pub mod pacing;
pub mod router;
pub mod serve;
pub mod shutdown;
pub mod speculation;
pub mod state;
pub mod status;
pub mod stop;
pub mod stream;
pub mod throughput;
pub mod validation;
pub mod worker;

pub use args::Args;
pub use serve::{ServeError, run};
