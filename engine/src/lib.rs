//! The engine: checkpoints, tokenizer, kernels, KV cache, autoregressive and Jacobi decoding, and the differentiable forward.
//!
//! Everything here is synchronous. It must not know of HTTP, Kubernetes or async runtimes.
//!
//! Exactness rule: within one build and instruction set a row's result never depends on the rows beside it, nor on the number of
//! threads. Jacobi decoding therefore gives the tokens of autoregressive decoding bit for bit.

pub mod batch;
pub mod checkpoint;
pub mod compare;
pub mod decode;
mod device;
pub mod differentiable;
mod kernels;
pub mod model;
pub mod random;
pub mod tokenizer;

pub use checkpoint::{Checkpoint, CheckpointError, ModelConfig};
pub use decode::{
    DecodeError, DecodeOptions, FinishReason, Generation, JacobiTrajectory, Sampling, SamplingError, Sequence,
    Statistics, Strategy, generate, generate_sampled, generate_with_trajectories,
};
pub use device::{Device, DeviceError};
pub use kernels::{InstructionSet, Storage};
pub use model::{
    BatchLogits, COST_CONTEXT, ComputeOptions, ForwardError, HardwareDescription, KvCache, KvMemoryFull, KvPool,
    LoadError, Logits, Model, Segment, TensorDtype, TensorFailure, TensorOptions, Workspace, available_memory,
    forward_cost, forward_cost_within,
};
pub use tokenizer::{Message, StreamDecoder, Tokenizer, TokenizerError};
