//! Low-rank adapters (`LoRA`, arXiv 2106.09685): weights stay as they are, and thin matrices beside those of the layers are learnt.

use candle_core::{Device, Result, Tensor, Var};

use super::Dimensions;
use super::operations::Operations;
use super::weights::{LayerWeights, ModelWeights, Weight, split};

/// How thick adapters are, and how much they count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterOptions {
    /// Rows of the matrix that reads and columns of the one that writes.
    pub rank: usize,
    /// Their product counts `alpha / rank` times.
    pub alpha: f64,
}

impl AdapterOptions {
    fn scale(self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// What an adapter adds to a matrix of a checkpoint: `alpha / rank · b · a`.
#[derive(Clone, Debug)]
pub struct AdaptedMatrix {
    /// The Hugging Face name of the matrix.
    pub name: String,
    /// `[rank, in]`, the same for matrices that are one here (queries, keys and values; gate and up).
    pub a: Tensor,
    /// `[out, rank]`
    pub b: Tensor,
}

/// A weight of a model that learns.
#[derive(Debug)]
pub(crate) enum Parameter {
    /// It is learnt.
    Trained(Var),
    /// It stays as it is.
    Frozen(Tensor),
    /// It stays as it is, and an adapter is learnt.
    Adapted(Tensor, Adapter),
}

/// The two matrices of an adapter: `a` `[rank, in]`, `b` `[out, rank]`.
#[derive(Debug)]
pub(crate) struct Adapter {
    a: Var,
    b: Var,
    scale: f64,
}

impl Weight for Parameter {
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Trained(variable) => variable.as_tensor(),
            Self::Frozen(weight) | Self::Adapted(weight, _) => weight,
        }
    }

    fn adapter(&self) -> Option<&Adapter> {
        match self {
            Self::Adapted(_, adapter) => Some(adapter),
            Self::Trained(_) | Self::Frozen(_) => None,
        }
    }
}

impl Parameter {
    /// What is learnt of it, with what its name has after that of the weight.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &Var)> {
        match self {
            Self::Trained(variable) => vec![("", variable)],
            Self::Frozen(_) => Vec::new(),
            Self::Adapted(_, adapter) => vec![(".lora_a", &adapter.a), (".lora_b", &adapter.b)],
        }
    }

    fn freeze(&mut self) {
        *self = Self::Frozen(self.tensor().detach());
    }

    fn adapt(&mut self, options: AdapterOptions, uniform: &mut impl FnMut() -> f64) -> Result<()> {
        let weight = self.tensor().detach();
        let adapter = Adapter::new(&weight, options, uniform)?;
        *self = Self::Adapted(weight, adapter);
        Ok(())
    }
}

impl Adapter {
    /// `a` as PEFT begins it, uniform within 1/√in, and `b` zero: it adds nothing yet.
    fn new(weight: &Tensor, options: AdapterOptions, uniform: &mut impl FnMut() -> f64) -> Result<Self> {
        let (output, input) = weight.dims2()?;
        let bound = 1.0 / (input as f64).sqrt();
        let a: Vec<f64> = (0..options.rank * input).map(|_| bound * uniform()).collect();
        let a = Tensor::from_vec(a, (options.rank, input), &Device::Cpu)?;
        let a = a.to_dtype(weight.dtype())?.to_device(weight.device())?;
        Ok(Self {
            a: Var::from_tensor(&a)?,
            b: Var::zeros((output, options.rank), weight.dtype(), weight.device())?,
            scale: options.scale(),
        })
    }

    /// `product + scale · x · aᵀ · bᵀ`. Shapes: `x` `[rows, in]`, `product` `[rows, out]`.
    pub(crate) fn add(&self, operations: Operations, x: &Tensor, product: &Tensor) -> Result<Tensor> {
        let read = (operations.linear(x, &self.a)? * self.scale)?;
        operations.linear_with_residual(&read, &self.b, product)
    }

    /// `weight + scale · b · a`
    pub(crate) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let product = self.b.as_detached_tensor().matmul(&self.a.as_detached_tensor())?;
        weight + (product * self.scale)?
    }
}

impl ModelWeights<Parameter> {
    /// Freezes all weights and begins adapters beside the matrices of the layers.
    pub(crate) fn adapt(&mut self, options: AdapterOptions, uniform: &mut impl FnMut() -> f64) -> Result<()> {
        let Self { embedding, layers, norm, lm_head } = self;
        [embedding, norm].into_iter().chain(lm_head).for_each(Parameter::freeze);
        layers.iter_mut().try_for_each(|layer| layer.adapt(options, uniform))
    }

    /// The adapters by the matrices of the checkpoint, on the CPU.
    pub(crate) fn adapters(&self, d: &Dimensions) -> Result<Vec<AdaptedMatrix>> {
        let mut adapters = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            for (matrix, parts) in layer.matrices(d, index) {
                let Some(adapter) = matrix.adapter() else { continue };
                let [a, b] = [&adapter.a, &adapter.b].map(|half| half.as_detached_tensor().to_device(&Device::Cpu));
                let (a, b) = (a?, b?);
                let parts = split(&b, &parts)?.into_iter();
                adapters.extend(parts.map(|(name, b)| AdaptedMatrix { name, a: a.clone(), b }));
            }
        }
        Ok(adapters)
    }
}

impl LayerWeights<Parameter> {
    fn adapt(&mut self, options: AdapterOptions, uniform: &mut impl FnMut() -> f64) -> Result<()> {
        let Self {
            attention_norm,
            qkv,
            qkv_bias,
            query_norm,
            key_norm,
            window: _,
            output,
            output_bias,
            mlp_norm,
            gate_up,
            down,
        } = self;
        let optional = [qkv_bias, query_norm, key_norm, output_bias].into_iter().flatten();
        [attention_norm, mlp_norm].into_iter().chain(optional).for_each(Parameter::freeze);
        [qkv, output, gate_up, down].into_iter().try_for_each(|matrix| matrix.adapt(options, uniform))
    }
}
