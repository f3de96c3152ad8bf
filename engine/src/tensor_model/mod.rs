//! Inference with candle tensors, on CUDA or on the CPU: the layers of the differentiable forward with plain weights and a KV cache.
//!
//! On the CPU `model` is several times faster and exact; this is there so that everything but the device is tested without a GPU. Results
//! of a row may depend on the rows beside it in the last bits: Jacobi decoding gives autoregressive tokens up to near-ties.

mod cache;
mod forward;
mod plan;

use std::fmt;

use candle_core::{DType, Tensor};
use thiserror::Error;

pub use cache::TensorCache;
pub use forward::{TensorLogits, TensorSegment};

use crate::checkpoint::{Checkpoint, Dtype, ModelConfig};
use crate::device::{Device, DeviceError};
use crate::differentiable::Dimensions;
use crate::differentiable::weights::{ModelWeights, Reader};
use crate::model::ForwardError;

/// A model ready to compute on a device. Immutable: share it between threads.
#[derive(Debug)]
pub struct TensorModel {
    config: ModelConfig,
    eos_token_ids: Vec<u32>,
    dimensions: Dimensions,
    place: Device,
    device: candle_core::Device,
    dtype: TensorDtype,
    weights: ModelWeights<Tensor>,
}

/// How weights, activations, keys and values are stored. Scores become probabilities in f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorDtype {
    /// 32 bits.
    F32,
    /// 16 bits, the exponent range of f32. Not on the CPU, where candle multiplies no such matrices.
    Bf16,
    /// 16 bits, finer but with a small exponent range.
    F16,
}

impl TensorDtype {
    /// f32 on the CPU; on CUDA 16 bits, of the kind that the checkpoint has.
    fn of(checkpoint: &Checkpoint, device: Device) -> Self {
        let stored = checkpoint.tensors().get("model.layers.0.mlp.down_proj.weight").map(|tensor| tensor.dtype);
        match (device, stored) {
            (Device::Cpu, _) => Self::F32,
            (Device::Cuda(_), Some(Dtype::F16)) => Self::F16,
            (Device::Cuda(_), _) => Self::Bf16,
        }
    }

    fn of_tensors(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

impl fmt::Display for TensorDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.of_tensors().as_str())
    }
}

/// Why a model could not be loaded or a forward not be computed.
#[derive(Debug, Error)]
pub enum TensorModelError {
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The forward was refused; nothing was computed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// A number type that candle does not multiply on the CPU.
    #[error("the CPU does not compute in {0} here; choose F32 or F16, or a GPU")]
    Dtype(TensorDtype),
    /// The device failed, as a rule because its memory is full. No cache is longer than before.
    #[error(
        "{doing} failed on {device}: {source}. If its memory is full, decode fewer sequences or shorter ones at a time"
    )]
    Tensor {
        /// What it was about.
        doing: &'static str,
        /// Where.
        device: Device,
        /// What candle said.
        source: candle_core::Error,
    },
}

impl TensorModel {
    /// Puts the weights of a checkpoint on a device; without a `dtype` f32 on the CPU and 16 bits on CUDA.
    pub fn load(checkpoint: &Checkpoint, place: Device, dtype: Option<TensorDtype>) -> Result<Self, TensorModelError> {
        let dtype = dtype.unwrap_or_else(|| TensorDtype::of(checkpoint, place));
        if place == Device::Cpu && dtype == TensorDtype::Bf16 {
            return Err(TensorModelError::Dtype(dtype));
        }
        let (device, dimensions) = (place.open()?, Dimensions::from(checkpoint.config()));
        let mut read = |name: &str| {
            let Some(view) = checkpoint.tensors().get(name) else {
                candle_core::bail!("the checkpoint has no tensor `{name}`")
            };
            Tensor::from_vec(view.to_f32(), view.shape, &candle_core::Device::Cpu)
        };
        let mut reader = Reader { dtype: dtype.of_tensors(), device: &device, read: &mut read, make: Ok };
        let weights = ModelWeights::read(&dimensions, &mut reader);
        let weights = weights.map_err(|source| TensorModelError::Tensor {
            doing: "loading the weights",
            device: place,
            source,
        })?;
        Ok(Self {
            config: checkpoint.config().clone(),
            eos_token_ids: checkpoint.eos_token_ids().to_vec(),
            dimensions,
            place,
            device,
            dtype,
            weights,
        })
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Tokens that end a text.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.place
    }

    /// In which number type.
    pub fn dtype(&self) -> TensorDtype {
        self.dtype
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(candle_core::Error) -> TensorModelError + use<> {
        let device = self.place;
        move |source| TensorModelError::Tensor { doing, device, source }
    }
}
