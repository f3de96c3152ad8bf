//! The binary `cllm` as a black box.
#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

mod bench;
mod chat;
mod export_gguf;
mod render;
mod support;
mod up;
