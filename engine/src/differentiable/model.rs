//! The Llama family as a differentiable function of its weights: rows of tokens in, logits of selected rows out.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::operations::{BatchRows, Operations};
use super::weights::{ModelWeights, Reader};
use super::{Dimensions, RowLayout};

/// A model whose weights are variables.
#[derive(Debug)]
pub struct DifferentiableModel {
    dimensions: Dimensions,
    device: Device,
    operations: Operations,
    weights: ModelWeights<Var>,
}

impl DifferentiableModel {
    /// Reads every weight by its Hugging Face name (`model.layers.0.self_attn.q_proj.weight`, …) and converts it to `dtype`, f32 or
    /// f64. Fails where a weight is missing or has another shape than `dimensions` say. Computes on the CPU.
    pub fn new(dimensions: Dimensions, dtype: DType, read: impl FnMut(&str) -> Result<Tensor>) -> Result<Self> {
        Self::on_device(&Device::Cpu, dimensions, dtype, read)
    }

    /// [`DifferentiableModel::new`] on any device: results are the same within rounding.
    pub fn on_device(
        device: &Device,
        dimensions: Dimensions,
        dtype: DType,
        read: impl FnMut(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        Self::with_operations(Operations::of(device), device, dimensions, dtype, read)
    }

    /// [`DifferentiableModel::on_device`] with the operations of another device where tests ask for them.
    pub(super) fn with_operations(
        operations: Operations,
        device: &Device,
        dimensions: Dimensions,
        dtype: DType,
        mut read: impl FnMut(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        let make = |tensor| Var::from_tensor(&tensor);
        let weights = ModelWeights::read(&dimensions, &mut Reader { dtype, device, read: &mut read, make })?;
        Ok(Self { dimensions, device: device.clone(), operations, weights })
    }

    /// The dimensions that it was made with.
    pub fn dimensions(&self) -> &Dimensions {
        &self.dimensions
    }

    /// Where its weights lie and its logits are computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every variable with a name, always in the same order.
    pub fn variables(&self) -> Vec<(String, &Var)> {
        self.weights.named()
    }

    /// Every weight under its Hugging Face name, in its shape there, on the CPU.
    pub fn export(&self) -> Result<Vec<(String, Tensor)>> {
        self.weights.export(&self.dimensions)
    }

    /// Logits `[selected, vocabulary]` of the selected rows of a batch, in the order given. One token a row.
    pub fn logits(&self, token_ids: &[u32], rows: &Arc<RowLayout>, selected: &[u32]) -> Result<Tensor> {
        if token_ids.len() != rows.rows() {
            bail!("a batch of {} rows takes as many tokens, found {}", rows.rows(), token_ids.len())
        }
        let (d, operations, weights) = (&self.dimensions, self.operations, &self.weights);
        let rows = BatchRows::new(operations, rows, d, weights.embedding.dtype(), &self.device)?;
        let selected = Tensor::from_slice(selected, selected.len(), &self.device)?;
        let ids = Tensor::from_slice(token_ids, token_ids.len(), &self.device)?;
        let mut x = weights.embedding.index_select(&ids, 0)?;
        for (index, layer) in weights.layers.iter().enumerate() {
            // after the last attention no row looks at another: the rest is computed for selected rows only
            let kept = (index + 1 == weights.layers.len()).then_some(&selected);
            x = layer.forward(d, operations, &x, |qkv| rows.attend(qkv, d.attention, layer.window), kept)?;
        }
        let normed = operations.rms_norm(&x, &weights.norm, d.norm_epsilon)?;
        operations.linear(&normed, weights.lm_head.as_ref().unwrap_or(&weights.embedding))
    }
}
