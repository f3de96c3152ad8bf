#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Four-bit weights, a scale for each block of thirty-two and, in one of the two storages, a smallest value.

use half::f16;

use super::{PanelBlock, Sums};
use crate::kernels::activations::{ActivationBlock, BLOCK};
use crate::kernels::lanes::{LANES, Lanes, NIBBLE_VECTORS};

/// Rows of the largest tile: nibbles, sums and products of more do not fit into registers.
const MOST_ROWS: usize = 4;
/// What stands for zero where there is no smallest value.
const OFFSET: i32 = 8;

/// Four bytes for each output in each vector: quad `v` of the inputs in their lower halves, quad `v + NIBBLE_VECTORS` in the upper ones.
type Nibbles = [[u8; 4 * LANES]; NIBBLE_VECTORS];

/// Weights from thirty-two inputs to sixteen outputs: `scale * (nibble - 8)`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(in crate::kernels) struct Q4_0Block {
    /// Half precision.
    scales: [u16; LANES],
    nibbles: Nibbles,
}

/// Weights from thirty-two inputs to sixteen outputs: `scale * nibble + smallest`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(in crate::kernels) struct Q4_1Block {
    /// Half precision.
    scales: [u16; LANES],
    /// Half precision.
    smallest: [u16; LANES],
    nibbles: Nibbles,
}

impl PanelBlock for Q4_0Block {
    const INPUTS: usize = BLOCK;
    const OUTPUTS: usize = LANES;
    const MOST_ROWS: usize = MOST_ROWS;
    type Activation = ActivationBlock;

    fn pack(columns: &[Option<&[u8]>]) -> Self {
        let mut block = Self { scales: [0; LANES], nibbles: [[0; 4 * LANES]; NIBBLE_VECTORS] };
        for (column, bytes) in columns.iter().enumerate() {
            let Some((scale, bytes)) = bytes.and_then(<[u8]>::split_first_chunk) else { continue };
            block.scales[column] = u16::from_le_bytes(*scale);
            pack(&mut block.nibbles, column, bytes);
        }
        block
    }

    fn weights(&self, column: usize) -> impl Iterator<Item = f32> {
        let scale = f16::from_bits(self.scales[column]).to_f32();
        levels(&self.nibbles, column).map(move |level| scale * (i32::from(level) - OFFSET) as f32)
    }

    #[inline(always)]
    fn multiply_add<L: Lanes, const ROWS: usize>(
        &self,
        strip: usize,
        activations: [&ActivationBlock; ROWS],
        sums: &mut [Sums<L>; ROWS],
    ) {
        let (quads, offsets) = (activations.map(|block| &block.quads), activations.map(|block| -OFFSET * block.sum));
        let products = L::nibble_products(&self.nibbles, quads, offsets);
        let scales = L::load_f16(&self.scales);
        for row in 0..ROWS {
            let scales = scales.multiply(L::splat(activations[row].scale));
            sums[row][strip] = L::from_integers(products[row]).multiply_add(scales, sums[row][strip]);
        }
    }
}

impl PanelBlock for Q4_1Block {
    const INPUTS: usize = BLOCK;
    const OUTPUTS: usize = LANES;
    const MOST_ROWS: usize = MOST_ROWS;
    type Activation = ActivationBlock;

    fn pack(columns: &[Option<&[u8]>]) -> Self {
        let (none, nibbles) = ([0; LANES], [[0; 4 * LANES]; NIBBLE_VECTORS]);
        let mut block = Self { scales: none, smallest: none, nibbles };
        for (column, bytes) in columns.iter().enumerate() {
            let Some((&[a, b, c, d], bytes)) = bytes.and_then(<[u8]>::split_first_chunk) else { continue };
            block.scales[column] = u16::from_le_bytes([a, b]);
            block.smallest[column] = u16::from_le_bytes([c, d]);
            pack(&mut block.nibbles, column, bytes);
        }
        block
    }

    fn weights(&self, column: usize) -> impl Iterator<Item = f32> {
        let value = |of: &[u16; LANES]| f16::from_bits(of[column]).to_f32();
        let (scale, smallest) = (value(&self.scales), value(&self.smallest));
        levels(&self.nibbles, column).map(move |level| scale * f32::from(level) + smallest)
    }

    #[inline(always)]
    fn multiply_add<L: Lanes, const ROWS: usize>(
        &self,
        strip: usize,
        activations: [&ActivationBlock; ROWS],
        sums: &mut [Sums<L>; ROWS],
    ) {
        let quads = activations.map(|block| &block.quads);
        let products = L::nibble_products(&self.nibbles, quads, [0; ROWS]);
        let (scales, smallest) = (L::load_f16(&self.scales), L::load_f16(&self.smallest));
        for row in 0..ROWS {
            let ActivationBlock { scale, sum, .. } = *activations[row];
            let scales = scales.multiply(L::splat(scale));
            let scaled = L::from_integers(products[row]).multiply_add(scales, sums[row][strip]);
            sums[row][strip] = smallest.multiply_add(L::splat(scale * sum as f32), scaled);
        }
    }
}

fn pack(nibbles: &mut Nibbles, column: usize, bytes: &[u8]) {
    for (vector, bytes) in nibbles.iter_mut().zip(bytes.as_chunks::<4>().0) {
        vector.as_chunks_mut().0[column] = *bytes;
    }
}

/// The levels of one output in the order of the inputs.
fn levels(nibbles: &Nibbles, column: usize) -> impl Iterator<Item = u8> {
    let bytes = move || nibbles.iter().flat_map(move |vector| vector.as_chunks::<4>().0[column]);
    bytes().map(|byte| byte & 15).chain(bytes().map(|byte| byte >> 4))
}
