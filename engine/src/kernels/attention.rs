#![expect(unsafe_code, reason = "threads write the outputs of different heads and rows into one buffer")]
#![expect(clippy::needless_range_loop, reason = "plain loops become vector instructions, closures may not")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Attention of new rows over the keys up to their own positions, or the newest of them, in blocks of fixed absolute positions.
//!
//! Keys lie in blocks of [`KEY_BLOCK`] positions (`[block][dimension][position]`), so that lanes are keys and each score is one chain
//! over dimensions. Values lie row by row, padded to whole vectors, so that lanes are dimensions and each output is one chain over
//! positions in ascending order. Keys are never split between threads.
//!
//! A few queries that read the same keys, of several rows or of heads that share keys, take turns within the innermost loops: their
//! chains hide each other's latency, and what a query computes does not depend on its company.

use std::array;
use std::ops::Range;

use super::elementwise::{exponential, horizontal_sum, rope};
use super::instruction_set::dispatch;
use super::lanes::{LANES, Lanes};
use super::shared::SharedMut;
use super::{InstructionSet, ThreadPool};

/// Positions of a block: the running maximum is corrected once per block.
pub(crate) const KEY_BLOCK: usize = VECTORS * LANES;
/// Vectors of a block.
const VECTORS: usize = 4;
/// Widest head.
const MAXIMUM_HEAD_DIM: usize = crate::ModelConfig::MAXIMUM_HEAD_DIM;
/// Queries that are computed together, at most.
const QUERIES: usize = 4;
/// Multiply-adds that are worth a piece of their own.
const WORTH_SHARING: usize = 1 << 13;

/// Rows of one text in a forward, at positions that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The text, as [`KeyValues`] counts them.
    pub(crate) text: usize,
    /// Its first row among all rows.
    pub(crate) first_row: usize,
    /// Its rows.
    pub(crate) rows: usize,
    /// Position of the first row.
    pub(crate) position: usize,
}

/// Keys and values of several texts in one layer.
pub(crate) trait KeyValues: Sync {
    /// Keys `[head_dim, KEY_BLOCK]` and values `[KEY_BLOCK, head_dim padded to LANES]` of one head at the positions from
    /// `block * KEY_BLOCK` on; anything where nothing was written yet.
    fn block(&self, text: usize, kv_head: usize, block: usize) -> (&[f32], &[f32]);
}

/// One attention layer over new rows of some texts, whose keys and values are written already.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Values of a head.
    pub(crate) head_dim: usize,
    /// `[rows, row_width]`, each beginning with `[heads, head_dim]` queries that are not rotated yet.
    pub(crate) rows: &'a [f32],
    /// Values from one row to the next.
    pub(crate) row_width: usize,
    /// Rotations of all positions up to those of the rows, `[positions, head_dim]`.
    pub(crate) angles: &'a [f32],
    /// Whose rows they are, in the order of the rows.
    pub(crate) spans: &'a [Span],
    /// What the texts wrote so far, these rows included.
    pub(crate) key_values: &'a dyn KeyValues,
    /// Positions that a row sees, its own included; none for all before it.
    pub(crate) window: Option<usize>,
}

impl Attention<'_> {
    /// `softmax(query · keysᵀ / sqrt(head_dim)) · values` of every head of every row into `output`, `[rows, heads, head_dim]`.
    pub(crate) fn run(&self, pool: &ThreadPool, set: InstructionSet, output: &mut [f32]) {
        let pieces: usize = self.spans.iter().map(|span| self.pieces(span)).sum();
        let work: usize = self.spans.iter().map(|span| self.pieces(span) * self.work(span)).sum();
        let grain = (WORTH_SHARING * pieces).div_ceil(work.max(1)).max(pieces.div_ceil(4 * pool.threads()));
        let output = SharedMut::new(output);
        pool.run(pieces.div_ceil(grain), |piece| {
            let (attention, output) = (self, &output);
            for piece in piece * grain..pieces.min((piece + 1) * grain) {
                let Some((span, kv_head, tile)) = attention.place(piece) else { return };
                dispatch!(
                    set,
                    fn attend(attention: &Attention<'_>, span: &Span, kv_head: usize, tile: usize, output: &SharedMut<'_, f32>)
                );
            }
        });
    }

    /// Groups of queries of a span that share keys.
    fn tiles(&self, span: &Span) -> usize {
        (span.rows * self.heads / self.kv_heads).div_ceil(QUERIES)
    }

    fn pieces(&self, span: &Span) -> usize {
        self.kv_heads * self.tiles(span)
    }

    /// Multiply-adds of a piece of a span.
    fn work(&self, span: &Span) -> usize {
        let seen = (span.position + span.rows).min(self.window.map_or(usize::MAX, |window| window + span.rows));
        QUERIES * 2 * seen * self.head_dim
    }

    /// Span, key head and tile of a piece.
    fn place(&self, mut piece: usize) -> Option<(&Span, usize, usize)> {
        for span in self.spans {
            let tiles = self.tiles(span);
            if piece < self.kv_heads * tiles {
                return Some((span, piece / tiles, piece % tiles));
            }
            piece -= self.kv_heads * tiles;
        }
        None
    }

    /// Positions that a row at `position` sees.
    #[inline(always)]
    fn seen(&self, position: usize) -> Range<usize> {
        let end = position + 1;
        end.saturating_sub(self.window.unwrap_or(end))..end
    }
}

/// The queries of one tile of one key head.
#[inline(always)]
fn attend<L: Lanes>(attention: &Attention<'_>, span: &Span, kv_head: usize, tile: usize, output: &SharedMut<'_, f32>) {
    let total = span.rows * attention.heads / attention.kv_heads;
    let queries = tile * QUERIES..total.min((tile + 1) * QUERIES);
    match queries.len() {
        1 => attend_queries::<L, 1>(attention, span, kv_head, queries.start, output),
        2 => attend_queries::<L, 2>(attention, span, kv_head, queries.start, output),
        3 => attend_queries::<L, 3>(attention, span, kv_head, queries.start, output),
        _ => attend_queries::<L, QUERIES>(attention, span, kv_head, queries.start, output),
    }
}

/// A query on its way through the blocks.
struct Query {
    /// Among the rows of its text.
    row: usize,
    head: usize,
    /// Rotated.
    values: [f32; MAXIMUM_HEAD_DIM],
    /// Scores, then weights, of the present block.
    scores: [[f32; LANES]; VECTORS],
    maximum: f32,
    sums: [f32; LANES],
    outputs: [[f32; LANES]; MAXIMUM_HEAD_DIM / LANES],
}

#[inline(always)]
fn attend_queries<L: Lanes, const COUNT: usize>(
    attention: &Attention<'_>,
    span: &Span,
    kv_head: usize,
    first: usize,
    output: &SharedMut<'_, f32>,
) {
    let Attention { head_dim, .. } = *attention;
    let mut queries = [const { Query::EMPTY }; COUNT];
    for (index, query) in (first..).zip(&mut queries) {
        query.read(attention, span, kv_head, index);
    }
    let stride = head_dim.next_multiple_of(LANES);
    // rows ascend, so the first query begins and ends first
    let seen: [Range<usize>; COUNT] = array::from_fn(|i| attention.seen(span.position + queries[i].row));
    for block in seen[0].start / KEY_BLOCK..seen[COUNT - 1].end.div_ceil(KEY_BLOCK) {
        let within = |position: usize| position.saturating_sub(block * KEY_BLOCK).min(KEY_BLOCK);
        let seen = seen.clone().map(|seen| within(seen.start)..within(seen.end));
        let count = seen[COUNT - 1].end;
        let (keys, values) = attention.key_values.block(span.text, kv_head, block);
        score::<L, COUNT>(&mut queries, head_dim, count, keys);
        for (query, seen) in queries.iter_mut().zip(&seen) {
            if !seen.is_empty() {
                query.weigh(seen.clone(), stride);
            }
        }
        add_seen_values::<L, COUNT>(&mut queries, &seen, &values[..count * stride], stride);
    }
    for query in &queries {
        query.finish(attention, span, output);
    }
}

impl Query {
    const EMPTY: Self = Self {
        row: 0,
        head: 0,
        values: [0.0; MAXIMUM_HEAD_DIM],
        scores: [[0.0; LANES]; VECTORS],
        maximum: f32::NEG_INFINITY,
        sums: [0.0; LANES],
        outputs: [[0.0; LANES]; MAXIMUM_HEAD_DIM / LANES],
    };

    /// Queries of a key head are counted row by row.
    #[inline(always)]
    fn read(&mut self, attention: &Attention<'_>, span: &Span, kv_head: usize, index: usize) {
        let Attention { head_dim, .. } = *attention;
        let group = attention.heads / attention.kv_heads;
        (self.row, self.head) = (index / group, kv_head * group + index % group);
        let start = (span.first_row + self.row) * attention.row_width + self.head * head_dim;
        let values = &mut self.values[..head_dim];
        values.copy_from_slice(&attention.rows[start..start + head_dim]);
        rope(values, &attention.angles[(span.position + self.row) * head_dim..][..head_dim]);
    }

    /// Turns the scores of the positions that are `seen` into weights relative to the new maximum, corrects what was summed up so far.
    #[inline(always)]
    fn weigh(&mut self, seen: Range<usize>, stride: usize) {
        let scores = &mut self.scores[..seen.end.div_ceil(LANES)];
        scores.as_flattened_mut()[..seen.start].fill(f32::NEG_INFINITY);
        scores.as_flattened_mut()[seen.end..].fill(f32::NEG_INFINITY);
        let mut highest = [self.maximum; LANES];
        for vector in &*scores {
            for lane in 0..LANES {
                highest[lane] = if vector[lane] > highest[lane] { vector[lane] } else { highest[lane] };
            }
        }
        let highest = highest.into_iter().fold(self.maximum, |a, b| if b > a { b } else { a });
        let factor = exponential(self.maximum - highest);
        self.maximum = highest;
        for sum in &mut self.sums {
            *sum *= factor;
        }
        for vector in scores {
            for lane in 0..LANES {
                vector[lane] = exponential(vector[lane] - highest);
                self.sums[lane] += vector[lane];
            }
        }
        for output in self.outputs[..stride / LANES].as_flattened_mut() {
            *output *= factor;
        }
    }

    #[inline(always)]
    fn finish(&self, attention: &Attention<'_>, span: &Span, output: &SharedMut<'_, f32>) {
        let first = ((span.first_row + self.row) * attention.heads + self.head) * attention.head_dim;
        // SAFETY: each head of each row is one query of one tile, and a tile is one piece of the job.
        let output = unsafe { output.part(first, attention.head_dim) };
        let scale = 1.0 / horizontal_sum(self.sums);
        for (output, sum) in output.iter_mut().zip(self.outputs.as_flattened()) {
            *output = sum * scale;
        }
    }
}

/// Scores of the first `count` positions of a block, and of those that fill up the last vector.
#[inline(always)]
fn score<L: Lanes, const COUNT: usize>(queries: &mut [Query; COUNT], head_dim: usize, count: usize, keys: &[f32]) {
    let keys = &keys.as_chunks::<LANES>().0[..head_dim * VECTORS];
    let vectors = count.div_ceil(LANES);
    let mut vector = 0;
    while 4 * COUNT <= chains::<L>() && vector + 4 <= vectors {
        score_vectors::<L, COUNT, 4>(queries, head_dim, vector, keys);
        vector += 4;
    }
    while 2 * COUNT <= chains::<L>() && vector + 2 <= vectors {
        score_vectors::<L, COUNT, 2>(queries, head_dim, vector, keys);
        vector += 2;
    }
    for vector in vector..vectors {
        score_vectors::<L, COUNT, 1>(queries, head_dim, vector, keys);
    }
}

#[inline(always)]
fn score_vectors<L: Lanes, const COUNT: usize, const WIDTH: usize>(
    queries: &mut [Query; COUNT],
    head_dim: usize,
    first: usize,
    keys: &[[f32; LANES]],
) {
    let mut sums = [[L::splat(0.0); WIDTH]; COUNT];
    for (dimension, keys) in keys.as_chunks::<VECTORS>().0.iter().enumerate().take(head_dim.min(MAXIMUM_HEAD_DIM)) {
        let keys: [L; WIDTH] = array::from_fn(|i| L::load(&keys[first + i]));
        for query in 0..COUNT {
            let value = L::splat(queries[query].values[dimension]);
            for i in 0..WIDTH {
                sums[query][i] = keys[i].multiply_add(value, sums[query][i]);
            }
        }
    }
    let scale = L::splat(1.0 / (head_dim as f32).sqrt());
    for query in 0..COUNT {
        for i in 0..WIDTH {
            sums[query][i].multiply(scale).store(&mut queries[query].scores[first + i]);
        }
    }
}

/// `outputs += weights · values` over the positions of a block that each query has `seen`, in ascending order: together where all of
/// them look, alone before and after.
#[inline(always)]
fn add_seen_values<L: Lanes, const COUNT: usize>(
    queries: &mut [Query; COUNT],
    seen: &[Range<usize>; COUNT],
    values: &[f32],
    stride: usize,
) {
    let end = seen[0].end;
    let start = seen[COUNT - 1].start.min(end);
    for (query, seen) in queries.iter_mut().zip(seen) {
        add_values::<L, 1>(array::from_mut(query), seen.start..start.min(seen.end), values, stride);
    }
    add_values::<L, COUNT>(queries, start..end, values, stride);
    for (query, seen) in queries.iter_mut().zip(seen) {
        add_values::<L, 1>(array::from_mut(query), seen.start.max(end)..seen.end, values, stride);
    }
}

/// `outputs += weights · values` over some positions of a block.
#[inline(always)]
fn add_values<L: Lanes, const COUNT: usize>(
    queries: &mut [Query; COUNT],
    positions: Range<usize>,
    values: &[f32],
    stride: usize,
) {
    if positions.is_empty() {
        return;
    }
    let (values, vectors) = (values.as_chunks::<LANES>().0, stride / LANES);
    let mut vector = 0;
    while 4 * COUNT <= chains::<L>() && vector + 4 <= vectors {
        add_vectors::<L, COUNT, 4>(queries, positions.clone(), values, vectors, vector);
        vector += 4;
    }
    while 2 * COUNT <= chains::<L>() && vector + 2 <= vectors {
        add_vectors::<L, COUNT, 2>(queries, positions.clone(), values, vectors, vector);
        vector += 2;
    }
    for vector in vector..vectors {
        add_vectors::<L, COUNT, 1>(queries, positions.clone(), values, vectors, vector);
    }
}

#[inline(always)]
fn add_vectors<L: Lanes, const COUNT: usize, const WIDTH: usize>(
    queries: &mut [Query; COUNT],
    positions: Range<usize>,
    values: &[[f32; LANES]],
    vectors: usize,
    first: usize,
) {
    let mut sums: [[L; WIDTH]; COUNT] =
        array::from_fn(|query| array::from_fn(|i| L::load(&queries[query].outputs[first + i])));
    let rows = values.chunks_exact(vectors).enumerate().take(positions.end.min(KEY_BLOCK)).skip(positions.start);
    for (position, row) in rows {
        let row: [L; WIDTH] = array::from_fn(|i| L::load(&row[first + i]));
        for query in 0..COUNT {
            let weight = L::splat(queries[query].scores.as_flattened()[position]);
            for i in 0..WIDTH {
                sums[query][i] = row[i].multiply_add(weight, sums[query][i]);
            }
        }
    }
    for query in 0..COUNT {
        for i in 0..WIDTH {
            sums[query][i].store(&mut queries[query].outputs[first + i]);
        }
    }
}

/// Sums that registers hold beside what is added to them.
const fn chains<L: Lanes>() -> usize {
    L::REGISTERS / 2
}
