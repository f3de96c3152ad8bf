//! Which implementation computes: our own operations on the CPU, compositions of candle's elsewhere.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::composed::{self, MaskedRows};
use super::{
    AttentionShape, Dimensions, RopeTable, RowLayout, attention, linear, linear_with_residual, rms_norm, silu_multiply,
};

/// One of two implementations of the same functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operations {
    /// Written for the CPU, f32 and f64.
    Own,
    /// Composed of candle's, on every device.
    Composed,
}

impl Operations {
    /// Those for tensors on a device.
    pub(crate) fn of(device: &Device) -> Self {
        if device.is_cpu() { Self::Own } else { Self::Composed }
    }

    pub(crate) fn linear(self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        match self {
            Self::Own => linear(x, weight),
            Self::Composed => composed::linear(x, weight),
        }
    }

    pub(crate) fn linear_with_residual(self, x: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match self {
            Self::Own => linear_with_residual(x, weight, residual),
            Self::Composed => residual + composed::linear(x, weight)?,
        }
    }

    pub(crate) fn rms_norm(self, x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
        match self {
            Self::Own => rms_norm(x, weight, epsilon),
            Self::Composed => composed::rms_norm(x, weight, epsilon),
        }
    }

    pub(crate) fn silu_multiply(self, gate_up: &Tensor) -> Result<Tensor> {
        match self {
            Self::Own => silu_multiply(gate_up),
            Self::Composed => composed::silu_multiply(gate_up),
        }
    }
}

/// What attention needs to know of the rows of a batch, made once for all layers.
pub(super) enum BatchRows {
    Own { rows: Arc<RowLayout>, rope: Arc<RopeTable> },
    Composed(MaskedRows),
}

impl BatchRows {
    pub(super) fn new(
        operations: Operations,
        rows: &Arc<RowLayout>,
        d: &Dimensions,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let rope = RopeTable::new(rows.positions(), &d.rope_frequencies);
        match operations {
            Operations::Own => Ok(Self::Own { rows: rows.clone(), rope: Arc::new(rope) }),
            Operations::Composed => {
                let windows = d.layers.iter().map(|layer| layer.window);
                MaskedRows::new(rows, &rope, windows, dtype, device).map(Self::Composed)
            }
        }
    }

    /// See [`attention`].
    pub(super) fn attend(&self, qkv: &Tensor, shape: AttentionShape, window: Option<usize>) -> Result<Tensor> {
        match self {
            Self::Own { rows, rope } => attention(qkv, shape, window, rows, rope),
            Self::Composed(rows) => rows.attend(qkv, shape, window),
        }
    }
}
