#![expect(clippy::needless_range_loop, reason = "plain loops become vector instructions, closures may not")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Inputs of a linear layer with quantised weights, themselves quantised to eight bits. Each row for itself, so that no row's result
//! depends on the rows beside it.

use super::InstructionSet;
use super::instruction_set::dispatch;
use super::lanes::Lanes;

/// Values that share a scale: those of a block of the quantised storages.
pub(super) const BLOCK: usize = 32;
/// Values of a quad.
const QUAD: usize = 4;

/// Four neighbouring values.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(4))]
pub(super) struct Quad {
    pub(super) bytes: [i8; QUAD],
}

impl Quad {
    /// The values as one number, the first in its lowest byte.
    #[inline(always)]
    pub(super) fn packed(self) -> i32 {
        let [a, b, c, d] = self.bytes;
        i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
    }
}

/// Thirty-two values: `scale` times small integers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ActivationBlock {
    pub(super) scale: f32,
    /// Sum of the integers.
    pub(super) sum: i32,
    pub(super) quads: [Quad; BLOCK / QUAD],
}

/// Quantises values, a multiple of [`BLOCK`] of them, into as many blocks as they make.
pub(super) fn quantize(set: InstructionSet, values: &[f32], blocks: &mut [ActivationBlock]) {
    dispatch!(set, fn quantize_blocks(values: &[f32], blocks: &mut [ActivationBlock]));
}

#[inline(always)]
fn quantize_blocks<L: Lanes>(values: &[f32], blocks: &mut [ActivationBlock]) {
    for (values, block) in values.as_chunks::<BLOCK>().0.iter().zip(blocks) {
        *block = quantize_block(values);
    }
}

#[inline(always)]
fn quantize_block(values: &[f32; BLOCK]) -> ActivationBlock {
    /// Adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let largest = largest_magnitude(values);
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut block = ActivationBlock { scale: largest / 127.0, ..Default::default() };
    // plain loops: what `map` is given would not be compiled for the instruction set
    let mut integers = [0_i8; BLOCK];
    for i in 0..BLOCK {
        integers[i] = (values[i] * inverse + ROUND).to_bits() as i8;
        block.sum += i32::from(integers[i]);
    }
    for (quad, bytes) in block.quads.iter_mut().zip(integers.as_chunks().0) {
        quad.bytes = *bytes;
    }
    block
}

/// Compared as integers, which order magnitudes as numbers do, in any order and without branches.
#[inline(always)]
fn largest_magnitude(values: &[f32; BLOCK]) -> f32 {
    let mut largest = 0;
    for i in 0..BLOCK {
        largest = largest.max(values[i].abs().to_bits());
    }
    f32::from_bits(largest)
}

#[cfg(test)]
mod tests {
    use super::{ActivationBlock, BLOCK, quantize};
    use crate::kernels::InstructionSet;

    #[test]
    fn values_come_back_within_half_a_step_whatever_the_instruction_set() {
        let values: Vec<f32> =
            (0..3 * BLOCK).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.03 * (i / BLOCK) as f32).collect();
        for set in InstructionSet::available() {
            let mut blocks = [ActivationBlock::default(); 3];
            quantize(set, &values, &mut blocks);
            for (values, block) in values.chunks(BLOCK).zip(&blocks) {
                let integers: Vec<i8> = block.quads.iter().flat_map(|quad| quad.bytes).collect();
                for (value, &integer) in values.iter().zip(&integers) {
                    let found = block.scale * f32::from(integer);
                    assert!((found - value).abs() <= block.scale * 0.501, "{set}: {value} became {found}");
                }
                assert_eq!(block.sum, integers.iter().map(|&x| i32::from(x)).sum::<i32>());
            }
            assert_eq!(blocks[0].scale.to_bits(), 0, "zeros need no scale");
        }
    }
}
