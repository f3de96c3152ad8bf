//! One forward: tokens of one or several sequences in, logits on the host out, keys and values into their caches.

use candle_core::{DType, Result, Tensor};

use super::plan::{Piece, Plan};
use super::{TensorCache, TensorModel, TensorModelError};
use crate::differentiable::composed::attend;
use crate::differentiable::layer::parts;
use crate::differentiable::operations::Operations;
use crate::model::ForwardError;

/// Tokens of one sequence in a forward.
#[derive(Debug)]
pub struct TensorSegment<'a> {
    /// They come after the positions in it, and are added to it.
    pub cache: &'a mut TensorCache,
    /// At least one.
    pub tokens: &'a [u32],
    /// The last so many of them have logits; more than there are: all.
    pub predict: usize,
}

impl TensorSegment<'_> {
    fn predicted(&self) -> usize {
        self.predict.min(self.tokens.len())
    }
}

/// Logits of the segments of a forward, f32 on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorLogits {
    values: Vec<f32>,
    vocab_size: usize,
    /// Where the rows of each segment begin, and where those of the last end.
    starts: Vec<usize>,
}

impl TensorLogits {
    /// Logits `[rows, vocab_size]` of the segment at `index`, one row after the other: as many rows as it was to predict.
    pub fn of(&self, index: usize) -> &[f32] {
        &self.values[self.starts[index] * self.vocab_size..self.starts[index + 1] * self.vocab_size]
    }

    /// Logits of one row of a segment, `[vocab_size]`.
    pub fn row(&self, segment: usize, row: usize) -> &[f32] {
        &self.of(segment)[row * self.vocab_size..(row + 1) * self.vocab_size]
    }

    /// All of them, one segment after the other.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

impl TensorModel {
    /// Computes the tokens of each segment at the positions after those in its cache and adds them to it.
    pub fn forward(&self, segments: &mut [TensorSegment<'_>]) -> std::result::Result<TensorLogits, TensorModelError> {
        self.check(segments)?;
        let mut starts = vec![0];
        for segment in segments.iter() {
            starts.push(starts[starts.len() - 1] + segment.predicted());
        }
        let values = self.run(segments).map_err(self.failed("a forward"))?;
        for segment in segments {
            segment.cache.advance(segment.tokens.len());
        }
        Ok(TensorLogits { values, vocab_size: self.config.vocab_size, starts })
    }

    fn check(&self, segments: &[TensorSegment<'_>]) -> std::result::Result<(), ForwardError> {
        let vocab_size = self.config.vocab_size;
        for TensorSegment { cache, tokens, .. } in segments {
            let (rows, len, capacity) = (tokens.len(), cache.len(), cache.capacity());
            if tokens.is_empty() {
                return Err(ForwardError::Empty);
            }
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
                return Err(ForwardError::TokenOutsideVocabulary { token, vocab_size });
            }
            if rows > capacity - len {
                return Err(ForwardError::CacheFull { rows, len, capacity });
            }
        }
        if segments.is_empty() { Err(ForwardError::Empty) } else { Ok(()) }
    }

    /// Logits of the rows that are to have some. What was written into the caches counts once they are advanced.
    fn run(&self, segments: &[TensorSegment<'_>]) -> Result<Vec<f32>> {
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
        segments: &[TensorSegment<'_>],
    ) -> Result<Tensor> {
        let [queries, keys, values] = parts(qkv, self.dimensions.attention)?;
        let (queries, keys) = (plan.rotations.rotate(&queries)?, plan.rotations.rotate(&keys)?);
        let values = values.reshape(keys.shape())?;
        let (mut attended, mut first) = (Vec::new(), 0);
        for (segment, pieces) in segments.iter().zip(pieces) {
            let rows = segment.tokens.len();
            segment.cache.write(layer, &keys.narrow(0, first, rows)?, &values.narrow(0, first, rows)?)?;
            for piece in pieces {
                let queries = queries.narrow(0, first + piece.rows.start, piece.rows.len())?;
                let [keys, values] = segment.cache.read(layer, piece.keys.start, piece.keys.len())?;
                attended.push(attend(&queries, &keys, &values, piece.mask.as_ref())?);
            }
            first += rows;
        }
        Tensor::cat(&attended, 0)
    }
}

/// Rows among those of all segments that are to have logits.
fn predicted_rows(segments: &[TensorSegment<'_>]) -> Vec<u32> {
    let (mut rows, mut first) = (Vec::new(), 0);
    for segment in segments {
        let end = first + segment.tokens.len();
        rows.extend((end - segment.predicted()..end).map(|row| row as u32));
        first = end;
    }
    rows
}
