//! Tests of the engine through its public doors.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::float_cmp, reason = "exactness is what is tested")]

mod adaptive;
mod checkpoint;
mod decoding;
mod exactness;
mod oracle;
mod sampling;
mod storages;
mod support;
mod tokenizer;
