//! The forward in candle tensors, on a GPU: the layers of the differentiable forward with plain weights.
//!
//! It computes on the processor too, so that everything but the device is tested without a GPU; `packed` is several times faster there, and
//! exact. Results of a row may depend on the rows beside it in the last bits: Jacobi decoding gives autoregressive tokens up to near-ties.

mod forward;
mod plan;

use std::fmt;

use candle_core::{DType, Tensor};
use thiserror::Error;

use super::hardware::processor_name;
use super::page::Place;
use super::{HardwareDescription, LoadError, available_memory};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::device::{Device, free_gpu_memory, gpu_name};
use crate::differentiable::Dimensions;
use crate::differentiable::weights::{ModelWeights, Reader};

/// Weights on a device.
#[derive(Debug)]
pub(super) struct TensorModel {
    dimensions: Dimensions,
    place: Device,
    device: candle_core::Device,
    dtype: TensorDtype,
    weights: ModelWeights<Tensor>,
}

/// To compute in candle tensors instead of by our own kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TensorOptions {
    /// Where.
    pub device: Device,
    /// In which numbers; none for f32 on the processor and on a GPU for 16 bits of the kind that the checkpoint has.
    pub dtype: Option<TensorDtype>,
}

/// How weights, activations, keys and values are stored. Scores become probabilities in f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorDtype {
    /// 32 bits.
    F32,
    /// 16 bits, the exponent range of f32. Not on the processor, where candle multiplies no such matrices.
    Bf16,
    /// 16 bits, finer but with a small exponent range.
    F16,
}

impl TensorDtype {
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

/// The device failed, as a rule because its memory is full.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{doing} failed: {reason}. If the memory of the device is full, decode fewer texts or shorter ones at a time")]
pub struct TensorFailure {
    /// What it was about.
    pub doing: &'static str,
    /// What candle said.
    pub reason: String,
}

impl TensorFailure {
    pub(super) fn new(doing: &'static str, error: &candle_core::Error) -> Self {
        Self { doing, reason: error.to_string() }
    }
}

impl TensorModel {
    /// Puts the weights of a checkpoint on a device.
    pub(super) fn load(checkpoint: &Checkpoint, options: TensorOptions) -> Result<Self, LoadError> {
        let TensorOptions { device: place, dtype } = options;
        let dtype = dtype.unwrap_or_else(|| TensorDtype::of(checkpoint, place));
        if place == Device::Cpu && dtype == TensorDtype::Bf16 {
            return Err(LoadError::TensorDtype(dtype));
        }
        let (device, dimensions) = (place.open()?, Dimensions::from(checkpoint.config()));
        let mut read = |name: &str| {
            let Some(view) = checkpoint.tensors().get(name) else {
                candle_core::bail!("the checkpoint has no tensor `{name}`")
            };
            Tensor::from_vec(view.to_f32(), view.shape, &candle_core::Device::Cpu)
        };
        let mut reader = Reader { dtype: dtype.of_tensors(), device: &device, read: &mut read, make: Ok };
        let weights = ModelWeights::read(&dimensions, &mut reader)
            .map_err(|error| TensorFailure::new("putting the weights on the device", &error))?;
        Ok(Self { dimensions, place, device, dtype, weights })
    }

    pub(super) fn hardware(&self) -> HardwareDescription {
        let name = gpu_name(&self.device).unwrap_or_else(processor_name);
        let instruction_set = match self.place {
            Device::Cpu => "tensors",
            Device::Cuda(_) => "cuda",
        };
        HardwareDescription { processor: name, threads: 1, instruction_set, storage: self.dtype.to_string() }
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        let values: usize = self.weights.named().into_iter().map(|(_, weight)| weight.elem_count()).sum();
        (values * self.dtype.of_tensors().size_in_bytes()) as u64
    }

    pub(super) fn free_memory(&self) -> Option<u64> {
        match self.place {
            Device::Cpu => available_memory(),
            Device::Cuda(_) => free_gpu_memory(&self.device),
        }
    }

    pub(super) fn place(&self) -> Place {
        Place::Tensors { device: self.device.clone(), dtype: self.dtype.of_tensors() }
    }
}
