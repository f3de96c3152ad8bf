//! The Llama family as a differentiable function of its weights: rows of tokens in, logits of selected rows out.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::adapter::{AdaptedMatrix, AdapterOptions, Parameter};
use super::operations::{BatchRows, Operations};
use super::weights::{ModelWeights, Reader, Weight};
use super::{Dimensions, RowLayout};

/// A model that learns: its weights are variables, or stay as they are and have adapters.
#[derive(Debug)]
pub struct DifferentiableModel {
    dimensions: Dimensions,
    device: Device,
    operations: Operations,
    weights: ModelWeights<Parameter>,
    adapters: Option<AdapterOptions>,
}

/// What a forward takes.
#[derive(Clone, Copy, Debug)]
pub struct ForwardInput<'a> {
    /// One a row.
    pub tokens: &'a [u32],
    /// Which rows see which.
    pub rows: &'a Arc<RowLayout>,
    /// The rows whose logits are wanted, in this order.
    pub selected: &'a [u32],
}

/// The same where the model computes.
pub(super) struct Batch {
    /// One token a row.
    pub(super) tokens: Tensor,
    rows: BatchRows,
    selected: Tensor,
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
        let make = |tensor| Var::from_tensor(&tensor).map(Parameter::Trained);
        let weights = ModelWeights::read(&dimensions, &mut Reader { dtype, device, read: &mut read, make })?;
        Ok(Self { dimensions, device: device.clone(), operations, weights, adapters: None })
    }

    /// The same function of its input, whose weights stay as they are from now on: what is learnt are adapters beside the matrices of the
    /// layers. `uniform` gives random numbers from −1 to 1.
    pub fn with_adapters(mut self, options: AdapterOptions, mut uniform: impl FnMut() -> f64) -> Result<Self> {
        self.weights.adapt(options, &mut uniform)?;
        self.adapters = Some(options);
        Ok(self)
    }

    /// The dimensions that it was made with.
    pub fn dimensions(&self) -> &Dimensions {
        &self.dimensions
    }

    /// Where its weights lie and its logits are computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Everything that is learnt, each with a name, always in the same order.
    pub fn variables(&self) -> Vec<(String, &Var)> {
        let named = self.weights.named().into_iter();
        named
            .flat_map(|(name, parameter)| {
                parameter.variables().into_iter().map(move |(part, variable)| (format!("{name}{part}"), variable))
            })
            .collect()
    }

    /// Every weight under its Hugging Face name, in its shape there, on the CPU; adapters are merged into their matrices.
    pub fn export(&self) -> Result<Vec<(String, Tensor)>> {
        self.weights.export(&self.dimensions)
    }

    /// The options of its adapters, where it has any.
    pub fn adapter_options(&self) -> Option<AdapterOptions> {
        self.adapters
    }

    /// Its adapters by the matrices of the checkpoint, on the CPU.
    pub fn adapters(&self) -> Result<Vec<AdaptedMatrix>> {
        self.weights.adapters(&self.dimensions)
    }

    /// Logits `[selected, vocabulary]` of the selected rows.
    pub fn logits(&self, input: ForwardInput<'_>) -> Result<Tensor> {
        let batch = self.batch(input)?;
        self.head(&self.through(0..self.layers(), self.embed(&batch)?, &batch)?)
    }

    /// [`DifferentiableModel::logits`] as constants: nothing is kept for gradients.
    pub fn constant_logits(&self, input: ForwardInput<'_>) -> Result<Tensor> {
        let batch = self.batch(input)?;
        let mut x = self.embed(&batch)?.detach();
        for index in 0..self.layers() {
            x = self.through(index..index + 1, x, &batch)?.detach();
        }
        Ok(self.head(&x)?.detach())
    }

    /// Number of layers.
    pub(super) fn layers(&self) -> usize {
        self.weights.layers.len()
    }

    /// The embedding, where it is learnt.
    pub(super) fn trained_embedding(&self) -> Option<&Var> {
        match &self.weights.embedding {
            Parameter::Trained(embedding) => Some(embedding),
            Parameter::Frozen(_) | Parameter::Adapted(..) => None,
        }
    }

    pub(super) fn batch(&self, input: ForwardInput<'_>) -> Result<Batch> {
        let ForwardInput { tokens, rows, selected } = input;
        if tokens.len() != rows.rows() {
            bail!("a batch of {} rows takes as many tokens, found {}", rows.rows(), tokens.len())
        }
        let dtype = self.weights.embedding.tensor().dtype();
        Ok(Batch {
            tokens: Tensor::from_slice(tokens, tokens.len(), &self.device)?,
            rows: BatchRows::new(self.operations, rows, &self.dimensions, dtype, &self.device)?,
            selected: Tensor::from_slice(selected, selected.len(), &self.device)?,
        })
    }

    /// All rows before the first layer.
    pub(super) fn embed(&self, batch: &Batch) -> Result<Tensor> {
        self.weights.embedding.tensor().index_select(&batch.tokens, 0)
    }

    /// Rows after some layers; after the last one, the selected rows.
    pub(super) fn through(&self, layers: Range<usize>, mut x: Tensor, batch: &Batch) -> Result<Tensor> {
        let d = &self.dimensions;
        for index in layers {
            let layer = &self.weights.layers[index];
            // after the last attention no row looks at another: the rest is computed for selected rows only
            let kept = (index + 1 == self.layers()).then_some(&batch.selected);
            let attend = |qkv: &Tensor| batch.rows.attend(qkv, d.attention, layer.window);
            x = layer.forward(d, self.operations, &x, attend, kept)?;
        }
        Ok(x)
    }

    /// Logits of rows after the last layer.
    pub(super) fn head(&self, x: &Tensor) -> Result<Tensor> {
        let weights = &self.weights;
        let normed = self.operations.rms_norm(x, weights.norm.tensor(), self.dimensions.norm_epsilon)?;
        self.operations.linear(&normed, weights.lm_head.as_ref().unwrap_or(&weights.embedding).tensor())
    }
}
