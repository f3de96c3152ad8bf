//! `evaluate`: target and trained checkpoint side by side, in one run on one machine: speed, quality, and a report beside the weights.

mod arms;
mod convergence;
mod cost;
mod intervals;
mod measure;
mod metric;
mod page;
mod pass;
mod perplexity;
mod prompts;
mod report;
mod run;
mod sql;
mod stored;
mod temperatures;

pub use metric::Metric;
pub(crate) use perplexity::surprise;
pub use run::{EvaluateArguments, run};
pub use stored::{Evaluated, ReportArguments, stored};
pub(crate) use stored::{REPORT, read_report};
pub use temperatures::Temperatures;
