//! `evaluate`: target and trained checkpoint side by side, in one run on one machine: speed, quality, and a report beside the weights.

mod arms;
mod metric;
mod report;
mod run;
mod sql;

pub use metric::Metric;
pub use run::{EvaluateArguments, Evaluated, run};
pub(crate) use run::{REPORT, read_report};
