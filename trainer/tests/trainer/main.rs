//! The trainer from outside: its binary, and its files.

#![expect(clippy::unwrap_used, reason = "a test helper that cannot go on should say where")]

mod agreement;
mod best;
mod collect;
mod control;
mod damage;
mod data;
mod distributed;
mod divergence;
mod full_disk;
mod kills;
mod labels;
mod lora;
mod pipeline;
mod refresh;
mod resume;
mod s3;
mod stored;
mod support;
