//! Arithmetic of the CPU forward. The rule of this room: an output value is one chain of operations in one order that depends on
//! nothing but its own row (inputs, position, keys up to it). Lanes of vectors are output columns or keys, never partial sums of
//! one value; threads and rows are only ever split between output values. Then a row's result is the same, bit for bit, for any
//! number of rows beside it and any number of threads, and Jacobi decoding equals autoregressive decoding.

mod activations;
mod attention;
mod elementwise;
mod instruction_set;
mod lanes;
mod large_pages;
mod packed_linear;
mod panels;
mod shared;
mod storage;
#[cfg(test)]
mod tests;
mod thread_pool;

pub(crate) use activations::{Activations, resized};
pub(crate) use attention::{Attention, KEY_BLOCK, KeyValues, Span};
pub(crate) use elementwise::{add_rope_angles, argmax, exponentials, rms_norm, rope};
pub use instruction_set::InstructionSet;
pub(crate) use lanes::LANES as VALUE_ALIGNMENT;
pub(crate) use packed_linear::{Compute, PackedLinear};
pub use storage::Storage;
pub(crate) use thread_pool::ThreadPool;
