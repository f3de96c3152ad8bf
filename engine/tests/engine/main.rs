//! Tests of the engine through its public doors.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::float_cmp, reason = "exactness is what is tested")]

mod checkpoint;
mod decoding;
mod exactness;
mod gguf;
mod gguf_export;
mod gguf_file;
mod gguf_hostile;
mod oracle;
mod support;
mod tokenizer;
