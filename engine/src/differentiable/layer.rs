//! One layer, the same for training and for inference; how rows look at each other is the caller's.

use candle_core::{Result, Tensor};

use super::operations::Operations;
use super::weights::{LayerWeights, Weight};
use super::{AttentionShape, Dimensions};

impl<W: Weight> LayerWeights<W> {
    /// Rows `[rows, hidden]` to the next layer. `attend` makes `[rows, query_width]` of queries, keys and values (normalised, not yet
    /// rotated, `[rows, qkv_width]`); with `kept` only these rows go on after it.
    pub(crate) fn forward(
        &self,
        d: &Dimensions,
        operations: Operations,
        x: &Tensor,
        attend: impl FnOnce(&Tensor) -> Result<Tensor>,
        kept: Option<&Tensor>,
    ) -> Result<Tensor> {
        let normed = operations.rms_norm(x, self.attention_norm.tensor(), d.norm_epsilon)?;
        let attended = attend(&self.qkv(d, operations, &normed)?)?;
        let (attended, x) = match kept {
            None => (attended, x.clone()),
            Some(kept) => (attended.index_select(kept, 0)?, x.index_select(kept, 0)?),
        };
        let x = linear_with_residual(operations, &attended, &self.output, &x)?;
        let x = add_bias(x, self.output_bias.as_ref())?;
        let normed = operations.rms_norm(&x, self.mlp_norm.tensor(), d.norm_epsilon)?;
        let gate_up = linear(operations, &normed, &self.gate_up)?;
        linear_with_residual(operations, &operations.silu_multiply(&gate_up)?, &self.down, &x)
    }

    /// Queries, keys and values as attention takes them.
    fn qkv(&self, d: &Dimensions, operations: Operations, normed: &Tensor) -> Result<Tensor> {
        let qkv = add_bias(linear(operations, normed, &self.qkv)?, self.qkv_bias.as_ref())?;
        let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) else { return Ok(qkv) };
        let [q, k, v] = parts(&qkv, d.attention)?;
        // the norm takes rows of the length of its weight: heads
        let q = operations.rms_norm(&q, query_norm.tensor(), d.norm_epsilon)?;
        let k = operations.rms_norm(&k, key_norm.tensor(), d.norm_epsilon)?;
        Tensor::cat(&[&q, &k, &v], 1)?.contiguous()
    }
}

/// Queries `[rows, query_width]`, keys and values `[rows, kv_width]` of `[rows, qkv_width]`.
pub(crate) fn parts(qkv: &Tensor, shape: AttentionShape) -> Result<[Tensor; 3]> {
    let (queries, keys) = (shape.query_width(), shape.kv_width());
    let part = |start, width| qkv.narrow(1, start, width)?.contiguous();
    Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?])
}

fn linear(operations: Operations, x: &Tensor, weight: &impl Weight) -> Result<Tensor> {
    adapted(operations, x, weight, operations.linear(x, weight.tensor())?)
}

fn linear_with_residual(operations: Operations, x: &Tensor, weight: &impl Weight, residual: &Tensor) -> Result<Tensor> {
    adapted(operations, x, weight, operations.linear_with_residual(x, weight.tensor(), residual)?)
}

/// A product with a weight, plus what is learnt beside the weight.
fn adapted(operations: Operations, x: &Tensor, weight: &impl Weight, product: Tensor) -> Result<Tensor> {
    match weight.adapter() {
        Some(adapter) => adapter.add(operations, x, &product),
        None => Ok(product),
    }
}

/// `x` `[rows, values]` plus a bias `[values]`.
fn add_bias(x: Tensor, bias: Option<&impl Weight>) -> Result<Tensor> {
    match bias {
        Some(bias) => x.broadcast_add(bias.tensor()),
        None => Ok(x),
    }
}
