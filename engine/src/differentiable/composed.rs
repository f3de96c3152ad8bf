//! The operations of the forward composed of candle's own, for every device and number type.
//!
//! Where a gradient is wanted they are made of operations that have one. Candle's fused `rms_norm`, `softmax_last_dim` and `rope` drop
//! gradients silently, so they compute only tensors that no variable reaches: those of inference.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use candle_nn::{ops, rotary_emb};

use super::frozen::linear_of_frozen;
use super::layer::parts;
use super::{AttentionShape, RopeTable, RowLayout};

/// Whether candle's fused operations may compute these.
fn may_fuse(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| !tensor.track_op() && tensor.dtype() != DType::F64)
}

/// See [`super::linear`].
pub(super) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if x.track_op() && !weight.track_op() { linear_of_frozen(x, weight) } else { x.matmul(&weight.t()?) }
}

/// See [`super::rms_norm`].
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let width = weight.dim(0)?;
    let rows = x.reshape((x.elem_count() / width, width))?;
    let normed = if may_fuse(&[x, weight]) {
        ops::rms_norm(&rows, weight, epsilon as f32)?
    } else {
        let mean = (rows.sqr()?.sum_keepdim(1)? / width as f64)?;
        rows.broadcast_mul(&(mean + epsilon)?.sqrt()?.recip()?)?.broadcast_mul(weight)?
    };
    normed.reshape(x.shape())
}

/// See [`super::silu_multiply`].
pub(super) fn silu_multiply(gate_up: &Tensor) -> Result<Tensor> {
    let size = gate_up.dim(1)? / 2;
    gate_up.narrow(1, 0, size)?.silu()? * gate_up.narrow(1, size, size)?
}

/// Rotations of some rows, where and as the heads are: cosines and sines `[rows, head_dim / 2]`.
#[derive(Debug)]
pub(crate) struct Rotations {
    cosines: Tensor,
    sines: Tensor,
}

impl Rotations {
    pub(crate) fn new(rope: &RopeTable, dtype: DType, device: &Device) -> Result<Self> {
        let shape = (rope.rows(), rope.head_dim() / 2);
        let tensor = |values: &[f32]| Tensor::from_slice(values, shape, device)?.to_dtype(dtype);
        Ok(Self { cosines: tensor(rope.cosines())?, sines: tensor(rope.sines())? })
    }

    /// Rotates `[rows, heads · head_dim]` and gives `[rows, heads, head_dim]`.
    pub(crate) fn rotate(&self, heads: &Tensor) -> Result<Tensor> {
        let (rows, width) = heads.dims2()?;
        let half = self.cosines.dim(1)?;
        let heads = heads.reshape((rows, width / (2 * half), 2 * half))?;
        if may_fuse(&[&heads]) {
            return rotary_emb::rope_thd(&heads.unsqueeze(0)?, &self.cosines, &self.sines)?.squeeze(0);
        }
        let (first, second) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
        let (cosines, sines) = (self.cosines.unsqueeze(1)?, self.sines.unsqueeze(1)?);
        let rotated = [
            (first.broadcast_mul(&cosines)? - second.broadcast_mul(&sines)?)?,
            (second.broadcast_mul(&cosines)? + first.broadcast_mul(&sines)?)?,
        ];
        Tensor::cat(&rotated, 2)
    }
}

/// Queries of some rows against keys and values that all of them may see but for what `mask` `[rows, keys]` lowers to −∞. Shapes:
/// `queries` `[rows, heads, head_dim]`, `keys` and `values` `[kv_heads, keys, head_dim]`, result `[rows, heads · head_dim]`.
pub(crate) fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let (rows, heads, head_dim) = queries.dims3()?;
    let (kv_heads, visible) = (keys.dim(0)?, keys.dim(1)?);
    let group = heads / kv_heads;
    // heads that share keys are rows of one product
    let queries = queries.reshape((rows, kv_heads, group, head_dim))?.permute((1, 2, 0, 3))?;
    let queries = queries.contiguous()?.reshape((kv_heads, group * rows, head_dim))?;
    let scores = (queries.matmul(&keys.transpose(1, 2)?)? * (1.0 / (head_dim as f64).sqrt()))?;
    let scores = scores.to_dtype(wide(scores.dtype()))?.reshape((heads, rows, visible))?;
    let scores = mask.map_or_else(|| Ok(scores.clone()), |mask| scores.broadcast_add(mask))?;
    let probabilities = softmax(&scores)?.to_dtype(values.dtype())?.reshape((kv_heads, group * rows, visible))?;
    let attended = probabilities.matmul(values)?.reshape((kv_heads, group, rows, head_dim))?;
    attended.permute((2, 0, 1, 3))?.contiguous()?.reshape((rows, heads * head_dim))
}

/// The type in which scores become probabilities.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    if may_fuse(&[scores]) {
        return ops::softmax_last_dim(scores);
    }
    let exponentials = shifted(scores)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}

fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = shifted(logits)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Less the largest value, a constant: the result of a softmax does not depend on it.
fn shifted(values: &Tensor) -> Result<Tensor> {
    values.broadcast_sub(&values.max_keepdim(D::Minus1)?.detach())
}

/// The rows of a batch as attention takes them here: every row against every other, with masks.
pub(super) struct MaskedRows {
    rotations: Rotations,
    /// One for each window that a layer has: 0 where a row sees another, −∞ elsewhere.
    masks: Vec<(Option<usize>, Tensor)>,
}

impl MaskedRows {
    pub(super) fn new(
        rows: &RowLayout,
        rope: &RopeTable,
        windows: impl Iterator<Item = Option<usize>>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut masks: Vec<(Option<usize>, Tensor)> = Vec::new();
        for window in windows {
            if masks.iter().all(|(known, _)| *known != window) {
                let mask = Tensor::from_vec(mask(rows, window), (rows.rows(), rows.rows()), device)?;
                masks.push((window, mask.to_dtype(wide(dtype))?));
            }
        }
        Ok(Self { rotations: Rotations::new(rope, dtype, device)?, masks })
    }

    /// See [`super::attention`].
    pub(super) fn attend(&self, qkv: &Tensor, shape: AttentionShape, window: Option<usize>) -> Result<Tensor> {
        let Some((_, mask)) = self.masks.iter().find(|(known, _)| *known == window) else {
            bail!("no layer was announced with the window {window:?}")
        };
        let [queries, keys, values] = parts(qkv, shape)?;
        let (queries, keys) = (self.rotations.rotate(&queries)?, self.rotations.rotate(&keys)?);
        let values = values.reshape(keys.shape())?;
        let [keys, values] = [keys, values].map(|tensor| tensor.transpose(0, 1)?.contiguous());
        attend(&queries, &keys?, &values?, Some(mask))
    }
}

/// `[rows, rows]`, row by row.
fn mask(rows: &RowLayout, window: Option<usize>) -> Vec<f32> {
    let count = rows.rows();
    let mut mask = vec![f32::NEG_INFINITY; count * count];
    for span in rows.spans() {
        for row in span.start..span.start + span.len {
            let position = rows.positions()[row] as usize;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window)) as u32;
            let prefix = span.prefix_start..span.prefix_start + span.prefix_len;
            for seen in prefix.chain(span.start..=row).filter(|&seen| rows.positions()[seen] >= first) {
                mask[row * count + seen] = 0.0;
            }
        }
    }
    mask
}

/// See [`super::cross_entropy`].
pub(super) fn cross_entropy(logits: &Tensor, targets: &[u32], weight: f64) -> Result<Tensor> {
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    log_softmax(logits)?.gather(&targets, 1)?.sum_all()? * -weight
}

/// See [`super::forward_divergence`]; the teacher is detached already.
pub(super) fn forward_divergence(
    student: &Tensor,
    teacher: &Tensor,
    teacher_rows: &[u32],
    weight: f64,
) -> Result<Tensor> {
    let rows = Tensor::from_slice(teacher_rows, teacher_rows.len(), student.device())?;
    let teacher = log_softmax(&teacher.index_select(&rows, 0)?)?;
    (teacher.exp()? * (&teacher - log_softmax(student)?)?)?.sum_all()? * weight
}
