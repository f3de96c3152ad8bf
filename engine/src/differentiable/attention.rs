//! Rotary grouped-query attention over the rows of a [`RowLayout`] with its gradient: rotation, scores, softmax and sum in one
//! operation. Scores are computed for visible rows only, kept for one head at a time, and computed again in the backward pass.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::matrix::{Matrix, MatrixMut, Write, multiply};
use super::real::{Real, dispatch, tensor, values, with_values};
use super::rope::{Direction, RopeTable};
use super::rows::{RowLayout, Span};

/// Heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Values of the queries of a row.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of the keys of a row, and of its values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Values of a row of queries, keys and values.
    pub fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }
}

/// Attention with queries and keys rotated by their positions. Shapes: `qkv` `[rows, query_width + 2 · kv_width]`, queries first,
/// then keys, then values; result `[rows, query_width]`. With a `window` a row sees so many positions only, its own included.
pub fn attention(
    qkv: &Tensor,
    shape: AttentionShape,
    window: Option<usize>,
    rows: &Arc<RowLayout>,
    rope: &Arc<RopeTable>,
) -> Result<Tensor> {
    let (count, width) = qkv.dims2()?;
    if count != rows.rows() || count != rope.rows() || width != shape.qkv_width() || rope.head_dim() != shape.head_dim {
        bail!(
            "attention over {} rows takes {} values a row and a rope table of {} × {}, found {count} × {width} and {} × {}",
            rows.rows(),
            shape.qkv_width(),
            rows.rows(),
            shape.head_dim,
            rope.rows(),
            rope.head_dim(),
        )
    }
    qkv.apply_op1(Attention { shape, window, rows: rows.clone(), rope: rope.clone() })
}

struct Attention {
    shape: AttentionShape,
    window: Option<usize>,
    rows: Arc<RowLayout>,
    rope: Arc<RopeTable>,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(qkv.dtype(), forward::<T>(self, qkv, layout))
    }

    fn bwd(&self, qkv: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        dispatch!(qkv.dtype(), backward::<T>(self, qkv, gradient)).map(Some)
    }
}

fn forward<T: Real>(op: &Attention, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
    let width = op.shape.query_width();
    let rotated = op.rotated(values::<T>(qkv, layout)?);
    let mut result = vec![T::zero(); op.rows.rows() * width];
    let mut probabilities = Vec::new();
    for span in op.rows.spans() {
        for head in 0..op.shape.heads {
            let view = HeadView { op, span, head };
            view.probabilities(&rotated, &mut probabilities);
            view.weighted_values(&rotated, &probabilities, &mut result);
        }
    }
    Ok((T::to_cpu_storage_owned(result), (op.rows.rows(), width).into()))
}

fn backward<T: Real>(op: &Attention, qkv: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let gradient = gradient.contiguous()?;
    let rotated = with_values::<T, _>(qkv, |qkv| Ok(op.rotated(qkv)))?;
    let mut result = vec![T::zero(); rotated.len()];
    let (mut probabilities, mut of_scores) = (Vec::new(), Vec::new());
    with_values::<T, _>(&gradient, |gradient| {
        for span in op.rows.spans() {
            for head in 0..op.shape.heads {
                let view = HeadView { op, span, head };
                view.probabilities(&rotated, &mut probabilities);
                view.backward_values(&rotated, &probabilities, gradient, &mut of_scores, &mut result);
                view.backward_softmax(&probabilities, &mut of_scores);
                view.backward_scores(&rotated, &of_scores, &mut result);
            }
        }
        Ok(())
    })?;
    op.rotate(&mut result, Direction::Backward);
    tensor(result, (op.rows.rows(), op.shape.qkv_width()))
}

impl Attention {
    fn rotated<T: Real>(&self, qkv: &[T]) -> Vec<T> {
        let mut rotated = qkv.to_vec();
        self.rotate(&mut rotated, Direction::Forward);
        rotated
    }

    fn rotate<T: Real>(&self, qkv: &mut [T], direction: Direction) {
        let queries_and_keys = self.shape.query_width() + self.shape.kv_width();
        for (row, values) in qkv.chunks_exact_mut(self.shape.qkv_width()).enumerate() {
            self.rope.rotate(row, &mut values[..queries_and_keys], direction);
        }
    }
}

/// One head of one span: a matrix `[span.len, visible]` whose columns are the prefix, then the span itself.
struct HeadView<'a> {
    op: &'a Attention,
    span: &'a Span,
    head: usize,
}

impl HeadView<'_> {
    fn visible(&self) -> usize {
        self.span.prefix_len + self.span.len
    }

    /// The groups of rows that the span sees: first row, number of rows, first column in the score matrix.
    fn visible_rows(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let prefix = (self.span.prefix_start, self.span.prefix_len, 0);
        let own = (self.span.start, self.span.len, self.span.prefix_len);
        [prefix, own].into_iter().filter(|(_, count, _)| *count > 0)
    }

    fn query_offset(&self) -> usize {
        self.span.start * self.op.shape.qkv_width() + self.head * self.op.shape.head_dim
    }

    fn kv_head(&self) -> usize {
        self.head / (self.op.shape.heads / self.op.shape.kv_heads)
    }

    fn key_offset(&self, row: usize) -> usize {
        let shape = &self.op.shape;
        row * shape.qkv_width() + shape.query_width() + self.kv_head() * shape.head_dim
    }

    fn value_offset(&self, row: usize) -> usize {
        self.key_offset(row) + self.op.shape.kv_width()
    }

    fn output_offset(&self) -> usize {
        self.span.start * self.op.shape.query_width() + self.head * self.op.shape.head_dim
    }

    fn scale<T: Real>(&self) -> T {
        T::from_f64(1.0 / (self.op.shape.head_dim as f64).sqrt())
    }

    /// `rows` rows of one head at `offset` of queries, keys and values.
    fn rows_at<'b, T: Real>(&self, qkv: &'b [T], offset: usize, rows: usize) -> Matrix<'b, T> {
        Matrix::new(&qkv[offset..], rows, self.op.shape.head_dim, self.op.shape.qkv_width())
    }

    fn rows_at_mut<'b, T: Real>(&self, qkv: &'b mut [T], offset: usize, rows: usize) -> MatrixMut<'b, T> {
        MatrixMut::new(&mut qkv[offset..], rows, self.op.shape.head_dim, self.op.shape.qkv_width())
    }

    /// The softmax of the scaled scores; zero where a row does not see.
    fn probabilities<T: Real>(&self, rotated: &[T], out: &mut Vec<T>) {
        let (len, visible) = (self.span.len, self.visible());
        out.clear();
        out.resize(len * visible, T::zero());
        let queries = self.rows_at(rotated, self.query_offset(), len);
        for (row, count, column) in self.visible_rows() {
            let keys = self.rows_at(rotated, self.key_offset(row), count).transposed();
            let scores = MatrixMut::new(&mut out[column..], len, count, visible);
            multiply(scores, Write::Replace, queries, keys, self.scale());
        }
        for (row, scores) in out.chunks_exact_mut(visible).enumerate() {
            // the prefix begins with its sequence, so columns are positions
            let end = self.span.prefix_len + row + 1;
            let start = end.saturating_sub(self.op.window.unwrap_or(end));
            softmax(&mut scores[start..end]);
            scores[..start].fill(T::zero());
            scores[end..].fill(T::zero());
        }
    }

    fn weighted_values<T: Real>(&self, rotated: &[T], probabilities: &[T], result: &mut [T]) {
        let (len, visible, width) = (self.span.len, self.visible(), self.op.shape.query_width());
        for (row, count, column) in self.visible_rows() {
            let part = Matrix::new(&probabilities[column..], len, count, visible);
            let out = MatrixMut::new(&mut result[self.output_offset()..], len, self.op.shape.head_dim, width);
            multiply(out, Write::Add, part, self.rows_at(rotated, self.value_offset(row), count), T::one());
        }
    }

    /// Adds the gradient of the values, and gives the gradient of the probabilities.
    fn backward_values<T: Real>(
        &self,
        rotated: &[T],
        probabilities: &[T],
        gradient: &[T],
        of_probabilities: &mut Vec<T>,
        result: &mut [T],
    ) {
        let (len, visible, shape) = (self.span.len, self.visible(), &self.op.shape);
        let gradient = Matrix::new(&gradient[self.output_offset()..], len, shape.head_dim, shape.query_width());
        of_probabilities.clear();
        of_probabilities.resize(len * visible, T::zero());
        for (row, count, column) in self.visible_rows() {
            let values = self.rows_at(rotated, self.value_offset(row), count).transposed();
            let destination = MatrixMut::new(&mut of_probabilities[column..], len, count, visible);
            multiply(destination, Write::Replace, gradient, values, T::one());
            let part = Matrix::new(&probabilities[column..], len, count, visible).transposed();
            let of_values = self.rows_at_mut(result, self.value_offset(row), count);
            multiply(of_values, Write::Add, part, gradient, T::one());
        }
    }

    /// From the gradient of the probabilities to that of the scores, in place.
    fn backward_softmax<T: Real>(&self, probabilities: &[T], of_scores: &mut [T]) {
        let visible = self.visible();
        for (p, g) in probabilities.chunks_exact(visible).zip(of_scores.chunks_exact_mut(visible)) {
            let mean = p.iter().zip(g.iter()).fold(T::zero(), |sum, (&p, &g)| sum + p * g);
            for (g, &p) in g.iter_mut().zip(p) {
                *g = p * (*g - mean);
            }
        }
    }

    /// Adds the gradients of the rotated queries and keys.
    fn backward_scores<T: Real>(&self, rotated: &[T], of_scores: &[T], result: &mut [T]) {
        let (len, visible) = (self.span.len, self.visible());
        for (row, count, column) in self.visible_rows() {
            let of_part = Matrix::new(&of_scores[column..], len, count, visible);
            let keys = self.rows_at(rotated, self.key_offset(row), count);
            let of_queries = self.rows_at_mut(result, self.query_offset(), len);
            multiply(of_queries, Write::Add, of_part, keys, self.scale());
            let queries = self.rows_at(rotated, self.query_offset(), len);
            let of_keys = self.rows_at_mut(result, self.key_offset(row), count);
            multiply(of_keys, Write::Add, of_part.transposed(), queries, self.scale());
        }
    }
}

fn softmax<T: Real>(scores: &mut [T]) {
    let largest = scores.iter().copied().fold(scores[0], |a, b| if b > a { b } else { a });
    for score in scores.iter_mut() {
        *score = (*score - largest).exponential();
    }
    let sum = scores.iter().copied().fold(T::zero(), |a, b| a + b);
    for score in scores.iter_mut() {
        *score /= sum;
    }
}
