//! Tests of the engine through its public doors.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod adaptive;
mod checkpoint;
mod configuration;
mod decoding;
mod exactness;
mod golden;
mod oracle;
mod sampling;
mod storages;
mod support;
mod tokenizer;
