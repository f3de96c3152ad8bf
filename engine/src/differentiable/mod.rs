//! The differentiable forward of the Llama family in candle: for training, on CUDA for inference too (`tensor_model`), and the oracle of
//! the CPU inference in tests.
//!
//! The model has no cache, generates nothing and reads no files. Rows of all sequences of a batch are concatenated without padding
//! ([`RowLayout`]); only attention looks across rows. On the CPU (f32 and f64) every operation is our own with an explicit backward, and
//! all work runs on the calling thread, so that results do not depend on the number of threads: parallelism is over batches. On other
//! devices operations are composed of candle's.

mod activation;
mod adapter;
mod attention;
pub(crate) mod composed;
mod dimensions;
mod frozen;
mod gradients;
pub(crate) mod layer;
mod linear;
mod loss;
mod matrix;
mod model;
pub(crate) mod operations;
mod real;
mod rms_norm;
mod rope;
mod rows;
pub(crate) mod weights;

pub use activation::silu_multiply;
pub use adapter::{AdaptedMatrix, AdapterOptions};
pub use attention::{AttentionShape, attention};
pub use dimensions::Dimensions;
pub use gradients::Activations;
pub use linear::{linear, linear_with_residual};
pub use loss::{cross_entropy, forward_divergence};
pub use model::{DifferentiableModel, ForwardInput};
pub use rms_norm::rms_norm;
pub use rope::RopeTable;
pub use rows::{RowLayout, Span};

#[cfg(test)]
mod tests;
