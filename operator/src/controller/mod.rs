//! The thin shell: watches, reads and writes the cluster. It decides nothing that `model` and `training` could decide.

mod answered;
mod apply;
mod context;
mod diff;
mod error;
mod health;
mod injection;
mod leader;
mod metrics;
mod missed;
mod model;
mod pods;
mod replica;
mod run;
mod status;
mod telemetry;
mod training;
mod upkeep;

pub use diff::DECLARATION_ANNOTATION;
pub use error::{Error, Handling};
pub use leader::{LeaderElection, LeadershipError};
pub use run::{Listeners, Settings, run};
