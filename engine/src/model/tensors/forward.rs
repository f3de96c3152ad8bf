//! One forward in tensors.

use candle_core::{DType, Result, Tensor};

use super::plan::{Piece, Plan};
use super::{TensorFailure, TensorModel};
use crate::differentiable::composed::attend;
use crate::differentiable::layer::parts;
use crate::differentiable::operations::Operations;
use crate::model::Segment;

impl TensorModel {
    /// Logits `[rows, vocab_size]` of the tokens that are to have some, on the host. Caches have room for all tokens; what is written there
    /// counts once they are advanced.
    pub(in crate::model) fn forward(&self, segments: &[Segment<'_>]) -> std::result::Result<Vec<f32>, TensorFailure> {
        self.run(segments).map_err(|error| TensorFailure::new("a forward", &error))
    }

    fn run(&self, segments: &[Segment<'_>]) -> Result<Vec<f32>> {
        let (d, weights, operations) = (&self.dimensions, &self.weights, Operations::Composed);
        let plan = Plan::new(d, segments, self.dtype.of_tensors(), &self.device)?;
        let tokens: Vec<u32> = segments.iter().flat_map(|segment| segment.tokens).copied().collect();
        let predicted = predicted_rows(segments);
        // a tensor of no rows is none: the last row is computed for nobody
        let kept = if predicted.is_empty() { vec![tokens.len() as u32 - 1] } else { predicted.clone() };
        let kept = (kept.len() < tokens.len()).then(|| Tensor::from_slice(&kept, kept.len(), &self.device));
        let kept = kept.transpose()?;
        let ids = Tensor::from_slice(&tokens, tokens.len(), &self.device)?;
        let mut x = weights.embedding.index_select(&ids, 0)?;
        for (index, layer) in weights.layers.iter().enumerate() {
            let kept = if index + 1 == weights.layers.len() { kept.as_ref() } else { None };
            let pieces = plan.pieces(layer.window);
            x = layer.forward(d, operations, &x, |qkv| self.attend(index, qkv, &plan, pieces, segments), kept)?;
        }
        if predicted.is_empty() {
            return Ok(Vec::new());
        }
        let normed = operations.rms_norm(&x, &weights.norm, d.norm_epsilon)?;
        let logits = operations.linear(&normed, weights.lm_head.as_ref().unwrap_or(&weights.embedding))?;
        logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }

    /// Attention of one layer `[rows, query_width]` over the caches, after this layer's keys and values are written there.
    fn attend(
        &self,
        layer: usize,
        qkv: &Tensor,
        plan: &Plan,
        pieces: &[Vec<Piece>],
        segments: &[Segment<'_>],
    ) -> Result<Tensor> {
        let [queries, keys, values] = parts(qkv, self.dimensions.attention)?;
        let (queries, keys) = (plan.rotations.rotate(&queries)?, plan.rotations.rotate(&keys)?);
        let values = values.reshape(keys.shape())?;
        let (mut attended, mut first) = (Vec::new(), 0);
        for (segment, pieces) in segments.iter().zip(pieces) {
            let rows = segment.tokens.len();
            segment.cache.write_tensors(layer, &keys.narrow(0, first, rows)?, &values.narrow(0, first, rows)?)?;
            for piece in pieces {
                let queries = queries.narrow(0, first + piece.rows.start, piece.rows.len())?;
                let [keys, values] = segment.cache.read_tensors(layer, piece.keys.clone())?;
                attended.push(attend(&queries, &keys, &values, piece.mask.as_ref())?);
            }
            first += rows;
        }
        Tensor::cat(&attended, 0)
    }
}

/// Rows among those of all segments that are to have logits.
fn predicted_rows(segments: &[Segment<'_>]) -> Vec<u32> {
    let (mut rows, mut first) = (Vec::new(), 0);
    for segment in segments {
        let end = first + segment.tokens.len();
        rows.extend((end - segment.predicted()..end).map(|row| row as u32));
        first = end;
    }
    rows
}
