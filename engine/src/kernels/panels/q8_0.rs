#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Eight-bit weights, a scale for each block of thirty-two.

use half::f16;

use super::{PanelBlock, Sums};
use crate::kernels::activations::{ActivationBlock, BLOCK};
use crate::kernels::lanes::{LANES, Lanes, OFFSET};

/// Quads of a block.
const QUADS: usize = BLOCK / 4;

/// Weights from thirty-two inputs to sixteen outputs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(in crate::kernels) struct Q8_0Block {
    /// Half precision.
    scales: [u16; LANES],
    /// For each quad of inputs, four bytes for each output.
    bytes: [[u8; 4 * LANES]; QUADS],
}

impl PanelBlock for Q8_0Block {
    const INPUTS: usize = BLOCK;
    const OUTPUTS: usize = LANES;
    type Activation = ActivationBlock;

    fn pack(columns: &[Option<&[u8]>]) -> Self {
        let mut block = Self { scales: [0; LANES], bytes: [[OFFSET as u8; 4 * LANES]; QUADS] };
        for (lane, bytes) in columns.iter().enumerate() {
            let Some((scale, weights)) = bytes.and_then(<[u8]>::split_first_chunk) else { continue };
            block.scales[lane] = u16::from_le_bytes(*scale);
            for (quad, weights) in block.bytes.iter_mut().zip(weights.as_chunks::<4>().0) {
                quad.as_chunks_mut().0[lane] = weights.map(|weight| weight ^ OFFSET as u8);
            }
        }
        block
    }

    fn weights(&self, column: usize) -> impl Iterator<Item = f32> {
        let scale = f16::from_bits(self.scales[column]).to_f32();
        let bytes = self.bytes.iter().flat_map(move |quad| quad.as_chunks::<4>().0[column]);
        bytes.map(move |byte| scale * (i32::from(byte) - OFFSET) as f32)
    }

    #[inline(always)]
    fn multiply_add<L: Lanes, const ROWS: usize>(
        &self,
        strip: usize,
        activations: [&ActivationBlock; ROWS],
        sums: &mut [Sums<L>; ROWS],
    ) {
        let mut products = [L::splat_integer(0); ROWS];
        for row in 0..ROWS {
            products[row] = L::byte_sums(activations[row].sum);
        }
        for quad in 0..QUADS {
            let bytes = L::bytes(&self.bytes[quad]);
            for row in 0..ROWS {
                products[row] = L::dot_bytes(bytes, activations[row].quads[quad], products[row]);
            }
        }
        let scales = L::load_f16(&self.scales);
        for row in 0..ROWS {
            let scales = scales.multiply(L::splat(activations[row].scale));
            sums[row][strip] = L::from_integers(products[row]).multiply_add(scales, sums[row][strip]);
        }
    }
}
