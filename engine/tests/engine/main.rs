//! Tests of the engine through its public doors.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod adaptive;
mod batch;
mod checkpoint;
mod compare;
mod configuration;
mod decoding;
mod exactness;
mod gguf;
mod gguf_export;
mod gguf_file;
mod gguf_hostile;
mod golden;
mod oracle;
mod sampling;
mod storages;
mod support;
mod teacher_forced;
mod tensors;
mod tokenizer;
