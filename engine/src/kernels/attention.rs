#![expect(clippy::needless_range_loop, reason = "plain loops become vector instructions, closures may not")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Attention of one head of one row over the keys up to its own position, in blocks of fixed absolute positions.
//!
//! Keys lie in blocks of [`KEY_BLOCK`] positions (`[block][dimension][position]`), so that lanes are keys and each score is one chain
//! over dimensions. Values lie row by row, padded to whole vectors, so that lanes are dimensions and each output is one chain over
//! positions in ascending order. Keys are never split between threads.

use super::InstructionSet;
use super::elementwise::{exponential, horizontal_sum};
use super::instruction_set::dispatch;
use super::lanes::{LANES, Lanes};

/// Positions of a block: scores of a block are computed together, and the running maximum is corrected once per block.
pub(crate) const KEY_BLOCK: usize = VECTORS * LANES;
/// Vectors of a block: as many independent chains as hide the latency of an addition.
const VECTORS: usize = 8;
/// Vectors of the widest head.
const MAXIMUM_VECTORS: usize = crate::ModelConfig::MAXIMUM_HEAD_DIM / LANES;

/// What one head of one row sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionInput<'a> {
    /// `[head_dim]`.
    pub(crate) query: &'a [f32],
    /// `[blocks, head_dim, KEY_BLOCK]` of the key head; they may hold any finite or other values beyond `visible`.
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
    let blocks = input.keys.chunks_exact(input.query.len() * KEY_BLOCK);
    let values = input.values[..input.visible * vectors * LANES].chunks(KEY_BLOCK * vectors * LANES);
    for (keys, values) in blocks.zip(values) {
        let count = values.len() / (vectors * LANES);
        let mut scores = score::<L>(input.query, keys);
        scores.as_flattened_mut()[count..].fill(f32::NEG_INFINITY);
        let factor = running.weigh(&mut scores);
        let weights = &scores.as_flattened()[..count];
        add_values::<L>(weights, values, factor, &mut running.outputs[..vectors]);
    }
    let scale = 1.0 / horizontal_sum(running.sums);
    for (output, sum) in output.iter_mut().zip(running.outputs.as_flattened()) {
        *output = sum * scale;
    }
}

impl Running {
    /// Turns scores into weights relative to the new maximum. Returns the factor that corrects earlier weights.
    #[inline(always)]
    fn weigh(&mut self, scores: &mut [[f32; LANES]; VECTORS]) -> f32 {
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
        factor
    }
}

/// Scores of all positions of a block, invisible ones too.
#[inline(always)]
fn score<L: Lanes>(query: &[f32], keys: &[f32]) -> [[f32; LANES]; VECTORS] {
    let mut sums = [L::splat(0.0); VECTORS];
    let (keys, _) = keys.as_chunks::<LANES>().0.as_chunks::<VECTORS>();
    for (value, keys) in query.iter().zip(keys) {
        let value = L::splat(*value);
        for i in 0..VECTORS {
            sums[i] = L::load(&keys[i]).multiply_add(value, sums[i]);
        }
    }
    let scale = L::splat(1.0 / (query.len() as f32).sqrt());
    let mut scores = [[0.0; LANES]; VECTORS];
    for i in 0..VECTORS {
        sums[i].multiply(scale).store(&mut scores[i]);
    }
    scores
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
    let mut sums = [L::splat(0.0); COUNT];
    for i in 0..COUNT {
        sums[i] = L::load(&outputs[i]).multiply(factor);
    }
    for (weight, row) in weights.iter().zip(values.chunks(stride)) {
        let weight = L::splat(*weight);
        let row = &row[..COUNT];
        for i in 0..COUNT {
            sums[i] = L::load(&row[i]).multiply_add(weight, sums[i]);
        }
    }
    for i in 0..COUNT {
        sums[i].store(&mut outputs[i]);
    }
}
