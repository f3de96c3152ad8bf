#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Weights as floating-point numbers; sums are f32.

use super::{Activation, PANEL, PanelBlock, Sums};
use crate::kernels::activations::Pair;
use crate::kernels::lanes::{LANES, Lanes};

/// Weights of one input in f32: two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(in crate::kernels) struct F32Row([[f32; LANES]; 2]);

/// Weights of two inputs in bfloat16: two cache lines. The second of a last input without a partner is zero.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(in crate::kernels) struct Bf16Pairs([[Pair; LANES]; 2]);

impl PanelBlock for F32Row {
    const INPUTS: usize = 1;
    const OUTPUTS: usize = PANEL;
    type Activation = f32;

    fn pack(columns: &[Option<&[u8]>]) -> Self {
        let weight = |bytes: &[u8]| bytes.first_chunk().map_or(0.0, |&bytes| f32::from_le_bytes(bytes));
        Self(halves(|column| columns[column].map_or(0.0, weight)))
    }

    fn weights(&self, column: usize) -> impl Iterator<Item = f32> {
        std::iter::once(self.0.as_flattened()[column])
    }

    #[inline(always)]
    fn multiply_add<L: Lanes, const ROWS: usize>(
        &self,
        _: usize,
        activations: [&f32; ROWS],
        sums: &mut [Sums<L>; ROWS],
    ) {
        let weights = [L::load(&self.0[0]), L::load(&self.0[1])];
        for row in 0..ROWS {
            let value = L::splat(*activations[row]);
            for half in 0..2 {
                sums[row][half] = weights[half].multiply_add(value, sums[row][half]);
            }
        }
    }
}

impl PanelBlock for Bf16Pairs {
    const INPUTS: usize = 2;
    const OUTPUTS: usize = PANEL;
    type Activation = Pair;

    fn pack(columns: &[Option<&[u8]>]) -> Self {
        Self(halves(|column| columns[column].map_or(Pair::default(), Pair::from_stored)))
    }

    fn weights(&self, column: usize) -> impl Iterator<Item = f32> {
        let pair = self.0.as_flattened()[column];
        [pair.first(), pair.second()].into_iter()
    }

    #[inline(always)]
    fn multiply_add<L: Lanes, const ROWS: usize>(
        &self,
        _: usize,
        activations: [&Pair; ROWS],
        sums: &mut [Sums<L>; ROWS],
    ) {
        // half by half: where pairs are widened, those of both halves would leave too few registers
        for half in 0..2 {
            let weights = L::pairs(&self.0[half]);
            for row in 0..ROWS {
                sums[row][half] = L::dot_pairs(weights, *activations[row], sums[row][half]);
            }
        }
    }
}

fn halves<T>(of: impl Fn(usize) -> T) -> [[T; LANES]; 2] {
    [0, LANES].map(|first| std::array::from_fn(|lane| of(first + lane)))
}

impl Activation for f32 {}

impl Activation for Pair {}
