//! Tests of the server through its doors: the worker, HTTP on loopback, and the process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod api;
mod capacity;
mod download;
mod engine;
mod errors;
mod gates;
mod lifecycle;
mod memory;
mod process;
mod sampling;
mod scripted;
mod support;
mod worker;
