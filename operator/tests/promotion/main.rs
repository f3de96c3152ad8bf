//! Which checkpoint is served: each test tells a story to a model that is reconciled step by step, with nothing kept between two steps
//! but the resource and its status, as if the operator were restarted at each.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

#[path = "../common/mod.rs"]
mod common;
mod following;
mod gates;
mod pins;
mod rejection;
mod story;
