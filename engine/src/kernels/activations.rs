#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Inputs of a linear layer with quantised weights, themselves quantised to eight bits. Each row for itself, so that no row's result
//! depends on the rows beside it.

use super::InstructionSet;
use super::instruction_set::dispatch;
use super::lanes::{LANES, Lanes};

/// Values that share a scale: those of a block of the quantised storages.
pub(super) const BLOCK: usize = 32;
/// Values of a quad.
const QUAD: usize = 4;

/// Four neighbouring values, in the forms that instruction sets multiply.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quad {
    pub(super) bytes: [i8; QUAD],
    /// Values 0 and 2, then 1 and 3.
    pairs: [[i16; 2]; 2],
}

impl Quad {
    #[inline(always)]
    pub(super) fn new(bytes: [i8; QUAD]) -> Self {
        let [a, b, c, d] = bytes.map(i16::from);
        Self { bytes, pairs: [[a, c], [b, d]] }
    }

    /// Values 0 and 2, of sixteen bits each.
    #[inline(always)]
    pub(super) fn even(&self) -> i32 {
        Self::joined(self.pairs[0])
    }

    /// Values 1 and 3.
    #[inline(always)]
    pub(super) fn odd(&self) -> i32 {
        Self::joined(self.pairs[1])
    }

    #[inline(always)]
    fn joined([low, high]: [i16; 2]) -> i32 {
        i32::from(high) << 16 | i32::from(low as u16)
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
    let integers = values.map(|value| (value * inverse + ROUND).to_bits() as i8);
    let mut block = ActivationBlock {
        scale: largest / 127.0,
        sum: integers.iter().map(|&x| i32::from(x)).sum(),
        ..Default::default()
    };
    for (quad, bytes) in block.quads.iter_mut().zip(integers.as_chunks().0) {
        *quad = Quad::new(*bytes);
    }
    block
}

#[inline(always)]
fn largest_magnitude(values: &[f32; BLOCK]) -> f32 {
    let mut largest = [0.0_f32; LANES];
    for half in values.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let magnitude = half[lane].abs();
            largest[lane] = if magnitude > largest[lane] { magnitude } else { largest[lane] };
        }
    }
    largest.into_iter().fold(0.0, |a, b| if b > a { b } else { a })
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
                for quad in &block.quads {
                    let [a, b, c, d] = quad.bytes.map(|byte| i32::from(i16::from(byte) as u16));
                    assert_eq!([quad.even(), quad.odd()], [c << 16 | a, d << 16 | b]);
                }
            }
            assert_eq!(blocks[0].scale.to_bits(), 0, "zeros need no scale");
        }
    }
}
