//! The differentiable forward of the Llama family in candle, f32 and f64: for training, and the oracle of the CPU inference in tests.
//!
//! It has no cache, generates nothing and reads no files. Rows of all sequences of a batch are concatenated without padding
//! ([`RowLayout`]); only attention looks across rows. Every operation here has an explicit backward: candle's own `rms_norm`,
//! `softmax_last_dim` and `rope` drop gradients silently and must not be used.
//! All work runs on the calling thread, so that results do not depend on the number of threads: parallelism is over batches.

mod activation;
mod attention;
mod linear;
mod loss;
mod matrix;
mod model;
mod real;
mod rms_norm;
mod rope;
mod rows;

pub use activation::silu_multiply;
pub use attention::{AttentionShape, attention};
pub use linear::{linear, linear_with_residual};
pub use loss::{cross_entropy, forward_divergence};
pub use model::{DifferentiableModel, Dimensions};
pub use rms_norm::rms_norm;
pub use rope::RopeTable;
pub use rows::{RowLayout, Span};

#[cfg(test)]
mod tests;
