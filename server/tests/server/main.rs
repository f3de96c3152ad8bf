//! Tests of the server through its doors: the worker, HTTP on loopback, and the process.

mod api;
mod engine;
mod errors;
mod lifecycle;
mod process;
mod scripted;
mod support;
mod worker;
