#![expect(clippy::needless_range_loop, reason = "plain loops become vector instructions, closures may not")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Inputs of a linear layer as its weights want them: rounded to bfloat16, or quantised to eight bits. Each row for itself, so that no
//! row's result depends on the rows beside it.

use half::bf16;

use super::InstructionSet;
use super::instruction_set::dispatch;
use super::lanes::Lanes;

/// Values that share a scale: those of a block of the quantised storages.
pub(super) const BLOCK: usize = 32;
/// The second half of a [`Pair`]: with zeros below it, itself as f32.
pub(super) const HIGH_HALF: i32 = -1 << 16;
/// Values of a quad.
const QUAD: usize = 4;

/// Two neighbouring values in bfloat16, the first in the lower half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub(crate) struct Pair([u16; 2]);

impl Pair {
    /// One or two values as they are stored, little-endian.
    pub(super) fn from_stored(bytes: &[u8]) -> Self {
        let mut values = bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
        Self([0; 2].map(|zero| values.next().unwrap_or(zero)))
    }

    /// The values as one number.
    #[inline(always)]
    pub(super) fn packed(self) -> i32 {
        i32::from(self.0[1].cast_signed()) << 16 | i32::from(self.0[0])
    }

    #[inline(always)]
    pub(super) fn first(self) -> f32 {
        f32::from_bits(u32::from(self.0[0]) << 16)
    }

    #[inline(always)]
    pub(super) fn second(self) -> f32 {
        f32::from_bits(u32::from(self.0[1]) << 16)
    }
}

/// Rounds the values of one row; `pairs` has room for a half where their number is odd.
pub(super) fn round_pairs(set: InstructionSet, values: &[f32], pairs: &mut [Pair]) {
    dispatch!(set, fn round_row(values: &[f32], pairs: &mut [Pair]));
}

#[inline(always)]
fn round_row<L: Lanes>(values: &[f32], pairs: &mut [Pair]) {
    let (whole, rest) = values.as_chunks::<BLOCK>();
    let (pairs, last_pairs) = pairs.split_at_mut(whole.len() * (BLOCK / 2));
    for (values, pairs) in whole.iter().zip(pairs.as_chunks_mut::<{ BLOCK / 2 }>().0) {
        round_block(values, pairs);
    }
    if !rest.is_empty() {
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        round_block(&last, last_pairs);
    }
}

/// All values first, then pairs of them: vector instructions write their results one beside the other.
#[inline(always)]
fn round_block(values: &[f32; BLOCK], pairs: &mut [Pair]) {
    let mut bits = [0; BLOCK];
    for i in 0..BLOCK {
        bits[i] = bf16::from_f32(values[i]).to_bits();
    }
    for (pair, bits) in pairs.iter_mut().zip(bits.as_chunks().0) {
        *pair = Pair(*bits);
    }
}

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

/// Memory for the inputs of a layer.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    pub(super) pairs: Vec<Pair>,
    pub(super) blocks: Vec<ActivationBlock>,
}

/// The first `length` values of a buffer, which grows where it must and never shrinks.
pub(crate) fn resized<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    buffer.resize(buffer.len().max(length), T::default());
    &mut buffer[..length]
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
    use half::bf16;

    use super::{ActivationBlock, BLOCK, Pair, quantize, round_pairs};
    use crate::kernels::InstructionSet;

    #[test]
    fn values_are_rounded_as_the_library_does_whatever_the_instruction_set() {
        // halves between two neighbours, small and large, what is no number, and a last one without a partner
        let mut values: Vec<f32> = (0..61).map(|i| (1.0 + i as f32 / 512.0) * 2.0_f32.powi(i * 4 - 125)).collect();
        values.extend([f32::NAN, f32::INFINITY, -0.0, f32::MAX, -1.003_906_3, 0.1]);
        assert!(!values.len().is_multiple_of(2));
        for set in InstructionSet::available() {
            let mut pairs = vec![Pair::default(); values.len().div_ceil(2)];
            round_pairs(set, &values, &mut pairs);
            let mut found = pairs.iter().flat_map(|pair| [pair.first(), pair.second()]);
            for value in &values {
                let (expected, found) = (bf16::from_f32(*value).to_f32(), found.next().unwrap());
                assert_eq!(found.to_bits(), expected.to_bits(), "{set}: {value} became {found}");
            }
            assert_eq!(found.next().map(f32::to_bits), Some(0), "{set}");
        }
    }

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
