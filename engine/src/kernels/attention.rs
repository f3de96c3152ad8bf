#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Attention of one head of one row over the keys up to its own position, in blocks of fixed absolute positions.
//!
//! Keys lie in tiles of eight positions (`[tile][dimension][position]`), so that lanes are keys and each score is one chain over
//! dimensions. Values lie row by row, padded to whole vectors, so that lanes are dimensions and each output is one chain over
//! positions in ascending order. Keys are never split between threads.

use super::InstructionSet;
use super::elementwise::{exponential, horizontal_sum};
use super::instruction_set::dispatch;
use super::lanes::{LANES, Lanes};

/// Positions of a tile of keys.
pub(crate) const KEY_TILE: usize = LANES;
/// Tiles whose scores are computed together.
const TILES: usize = 4;
/// Positions between two corrections of the running maximum.
const BLOCK: usize = 64;
/// Vectors of the widest head.
const MAXIMUM_VECTORS: usize = crate::ModelConfig::MAXIMUM_HEAD_DIM / LANES;

/// What one head of one row sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionInput<'a> {
    /// `[head_dim]`.
    pub(crate) query: &'a [f32],
    /// `[tiles, head_dim, KEY_TILE]` of the key head; tiles may hold anything beyond `visible`.
    pub(crate) keys: &'a [f32],
    /// `[positions, head_dim padded to LANES]` of the value head.
    pub(crate) values: &'a [f32],
    /// Number of positions that the row sees: its own position plus one.
    pub(crate) visible: usize,
}

/// `softmax(query · keysᵀ / sqrt(head_dim)) · values` into `output`, `[head_dim]`.
pub(crate) fn attend(set: InstructionSet, input: AttentionInput<'_>, output: &mut [f32]) {
    dispatch!(set, fn attend_head(input: AttentionInput<'_>, output: &mut [f32]));
}

/// Softmax and weighted sum so far.
struct Running {
    maximum: f32,
    sums: [f32; LANES],
    outputs: [[f32; LANES]; MAXIMUM_VECTORS],
}

#[inline(always)]
fn attend_head<L: Lanes>(input: AttentionInput<'_>, output: &mut [f32]) {
    let vectors = input.query.len().div_ceil(LANES);
    let mut running =
        Running { maximum: f32::NEG_INFINITY, sums: [0.0; LANES], outputs: [[0.0; LANES]; MAXIMUM_VECTORS] };
    let mut start = 0;
    while start < input.visible {
        let count = BLOCK.min(input.visible - start);
        let mut scores = [[f32::NEG_INFINITY; LANES]; BLOCK / LANES];
        score_block::<L>(&input, start, count, &mut scores);
        let factor = running.weigh(&mut scores);
        let values = &input.values[start * vectors * LANES..(start + count) * vectors * LANES];
        let weights = &scores.as_flattened()[..count];
        add_values::<L>(weights, values, factor, &mut running.outputs[..vectors]);
        start += BLOCK;
    }
    let scale = 1.0 / horizontal_sum(running.sums);
    for (output, sum) in output.iter_mut().zip(running.outputs.as_flattened()) {
        *output = sum * scale;
    }
}

impl Running {
    /// Turns scores into weights relative to the new maximum. Returns the factor that corrects earlier weights.
    #[inline(always)]
    fn weigh(&mut self, scores: &mut [[f32; LANES]; BLOCK / LANES]) -> f32 {
        let highest = scores.as_flattened().iter().fold(self.maximum, |a, &b| if b > a { b } else { a });
        let factor = exponential(self.maximum - highest);
        self.maximum = highest;
        self.sums = self.sums.map(|sum| sum * factor);
        for vector in scores {
            for (sum, score) in self.sums.iter_mut().zip(vector) {
                *score = exponential(*score - highest);
                *sum += *score;
            }
        }
        factor
    }
}

/// Scores of the `count` positions from `start` on; the rest keeps minus infinity.
#[inline(always)]
fn score_block<L: Lanes>(
    input: &AttentionInput<'_>,
    start: usize,
    count: usize,
    scores: &mut [[f32; LANES]; BLOCK / LANES],
) {
    let tile_length = input.query.len() * KEY_TILE;
    let first = start / KEY_TILE;
    let tiles = count.div_ceil(KEY_TILE);
    let keys = &input.keys[first * tile_length..(first + tiles) * tile_length];
    let scale = L::splat(1.0 / (input.query.len() as f32).sqrt());
    let mut tile = 0;
    while tile + TILES <= tiles {
        score_tiles::<L, TILES>(input.query, &keys[tile * tile_length..], scale, &mut scores[tile..]);
        tile += TILES;
    }
    while tile < tiles {
        score_tiles::<L, 1>(input.query, &keys[tile * tile_length..], scale, &mut scores[tile..]);
        tile += 1;
    }
    scores.as_flattened_mut()[count..].fill(f32::NEG_INFINITY);
}

#[inline(always)]
fn score_tiles<L: Lanes, const COUNT: usize>(query: &[f32], keys: &[f32], scale: L, scores: &mut [[f32; LANES]]) {
    let (keys, _) = keys.as_chunks::<KEY_TILE>();
    let tiles: [&[[f32; KEY_TILE]]; COUNT] = std::array::from_fn(|i| &keys[i * query.len()..(i + 1) * query.len()]);
    let mut sums = [L::splat(0.0); COUNT];
    for (dimension, value) in query.iter().enumerate() {
        let value = L::splat(*value);
        for i in 0..COUNT {
            sums[i] = L::load(&tiles[i][dimension]).multiply_add(value, sums[i]);
        }
    }
    for (sum, scores) in sums.into_iter().zip(scores) {
        sum.multiply(scale).store(scores);
    }
}

/// `outputs = outputs * factor + weights · values`.
#[inline(always)]
fn add_values<L: Lanes>(weights: &[f32], values: &[f32], factor: f32, outputs: &mut [[f32; LANES]]) {
    let (values, _) = values.as_chunks::<LANES>();
    let vectors = outputs.len();
    let mut first = 0;
    while first + 4 <= vectors {
        add_vectors::<L, 4>(weights, &values[first..], vectors, factor, &mut outputs[first..]);
        first += 4;
    }
    while first < vectors {
        add_vectors::<L, 1>(weights, &values[first..], vectors, factor, &mut outputs[first..]);
        first += 1;
    }
}

#[inline(always)]
fn add_vectors<L: Lanes, const COUNT: usize>(
    weights: &[f32],
    values: &[[f32; LANES]],
    stride: usize,
    factor: f32,
    outputs: &mut [[f32; LANES]],
) {
    let factor = L::splat(factor);
    let mut sums: [L; COUNT] = std::array::from_fn(|i| L::load(&outputs[i]).multiply(factor));
    for (weight, row) in weights.iter().zip(values.chunks(stride)) {
        let weight = L::splat(*weight);
        let row = &row[..COUNT];
        for i in 0..COUNT {
            sums[i] = L::load(&row[i]).multiply_add(weight, sums[i]);
        }
    }
    for (sum, output) in sums.into_iter().zip(outputs) {
        sum.store(output);
    }
}
