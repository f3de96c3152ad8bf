#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Weights as floating-point numbers; arithmetic is that of f32.

use half::bf16;

use super::{Activation, PANEL, PanelBlock, Sums};
use crate::kernels::lanes::{LANES, Lanes};

/// Weights of one input in f32: two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(in crate::kernels) struct F32Row([[f32; LANES]; 2]);

/// Weights of one input in bfloat16: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(in crate::kernels) struct Bf16Row([[u16; LANES]; 2]);

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
        multiply_add([L::load(&self.0[0]), L::load(&self.0[1])], activations, sums);
    }
}

impl PanelBlock for Bf16Row {
    const INPUTS: usize = 1;
    const OUTPUTS: usize = PANEL;
    type Activation = f32;

    fn pack(columns: &[Option<&[u8]>]) -> Self {
        let weight = |bytes: &[u8]| bytes.first_chunk().map_or(0, |&bytes| u16::from_le_bytes(bytes));
        Self(halves(|column| columns[column].map_or(0, weight)))
    }

    fn weights(&self, column: usize) -> impl Iterator<Item = f32> {
        std::iter::once(bf16::from_bits(self.0.as_flattened()[column]).to_f32())
    }

    #[inline(always)]
    fn multiply_add<L: Lanes, const ROWS: usize>(
        &self,
        _: usize,
        activations: [&f32; ROWS],
        sums: &mut [Sums<L>; ROWS],
    ) {
        // not by `map`: a function that is passed is not compiled for the instruction set
        multiply_add([L::load_bf16(&self.0[0]), L::load_bf16(&self.0[1])], activations, sums);
    }
}

#[inline(always)]
fn multiply_add<L: Lanes, const ROWS: usize>(weights: [L; 2], activations: [&f32; ROWS], sums: &mut [Sums<L>; ROWS]) {
    for row in 0..ROWS {
        let value = L::splat(*activations[row]);
        for half in 0..2 {
            sums[row][half] = weights[half].multiply_add(value, sums[row][half]);
        }
    }
}

fn halves<T>(of: impl Fn(usize) -> T) -> [[T; LANES]; 2] {
    [0, LANES].map(|first| std::array::from_fn(|lane| of(first + lane)))
}

impl Activation for f32 {
    /// Three rows would leave too few of sixteen registers of half a vector: sums would go to memory and back at every input.
    fn tile_rows<L: Lanes>() -> usize {
        if has_room::<L>(8, 1) { 8 } else { 2 }
    }

    fn has_room_for_two<L: Lanes>(rows: usize) -> bool {
        has_room::<L>(rows, 2)
    }
}

/// Whether the sums of a tile leave enough registers for weights and values.
const fn has_room<L: Lanes>(rows: usize, panels: usize) -> bool {
    2 * rows * panels <= L::REGISTERS / 4 * 3
}
