//! Sixteen f32, or sixteen i32, side by side. Kernels are written once over [`Lanes`] and compiled for each instruction set.
//!
//! Methods of [`Avx2Lanes`] and [`Avx512Lanes`] may only run where these instructions are available: `dispatch!` is the one place
//! that instantiates kernels with them, behind that check.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::activations::{Pair, Quad};

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2Lanes;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512Lanes;
pub(super) use portable::PortableLanes;

/// Number of values of a vector: those of a cache line.
pub(crate) const LANES: usize = 16;

/// Vectors of bytes that hold the nibbles of a block.
pub(super) const NIBBLE_VECTORS: usize = 4;

/// Added to signed bytes, so that they are not negative.
pub(super) const OFFSET: i32 = 128;

/// A vector of sixteen f32. Every operation is lane by lane. Integer operations are exact, so that instruction sets agree on them.
pub(super) trait Lanes: Copy {
    /// Vectors that registers can hold at a time.
    const REGISTERS: usize;
    /// Sixteen i32.
    type Integers: Copy;
    /// Four bytes for each lane, as [`Lanes::dot_bytes`] wants them.
    type Bytes: Copy;
    /// Two bfloat16 for each lane, as [`Lanes::dot_pairs`] wants them.
    type Pairs: Copy;

    fn splat(value: f32) -> Self;
    fn load(values: &[f32; LANES]) -> Self;
    /// Widens half precision, given by their bits.
    fn load_f16(bits: &[u16; LANES]) -> Self;
    fn store(self, values: &mut [f32; LANES]);
    fn multiply(self, other: Self) -> Self;
    /// `self * factor + addend`: one rounding with FMA, two without, but always the same within an instruction set.
    fn multiply_add(self, factor: Self, addend: Self) -> Self;

    fn pairs(pairs: &[Pair; LANES]) -> Self::Pairs;
    /// Adds to each lane the two products of its pair and `pair`. Products of bfloat16 are exact in f32; how their sum is rounded is up to
    /// the instruction set.
    fn dot_pairs(pairs: Self::Pairs, pair: Pair, sums: Self) -> Self;

    fn splat_integer(value: i32) -> Self::Integers;
    /// Exact below 2²⁴.
    fn from_integers(integers: Self::Integers) -> Self;
    /// Bytes of lane `i` are `bytes[4 * i..4 * i + 4]`, each [`OFFSET`] more than what it stands for.
    fn bytes(bytes: &[u8; 4 * LANES]) -> Self::Bytes;
    /// What [`Lanes::dot_bytes`] begins with; `total` is the sum of all values of the quads to come.
    fn byte_sums(total: i32) -> Self::Integers;
    /// Adds to each lane the four products of its bytes and the values of the quad, which are not below -127.
    fn dot_bytes(bytes: Self::Bytes, quad: Quad, sums: Self::Integers) -> Self::Integers;

    /// `starts`, and to each lane of a row's the products of its nibbles and the row's values. A quad of nibbles is in the lower halves of
    /// `bytes[v][4 * i..4 * i + 4]` for lane `i`, to be multiplied with quad `v`, or in the upper ones, with quad `v + NIBBLE_VECTORS`.
    fn nibble_products<const ROWS: usize>(
        bytes: &[[u8; 4 * LANES]; NIBBLE_VECTORS],
        rows: [&[Quad; 2 * NIBBLE_VECTORS]; ROWS],
        starts: [i32; ROWS],
    ) -> [Self::Integers; ROWS];

    /// Asks for the cache line at an address, which need not be valid: nothing is read.
    fn prefetch<T>(address: *const T);
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{LANES, Lanes, NIBBLE_VECTORS, OFFSET};
    use crate::kernels::activations::{Pair, Quad};
    use crate::kernels::instruction_set::dispatch;
    use crate::kernels::{InstructionSet, Storage};

    const QUADS: usize = 2 * NIBBLE_VECTORS;
    const ROWS: usize = 2;
    const START: i32 = -1000;

    /// Weights and the values of two rows to multiply them with.
    struct Inputs {
        bytes: [[u8; 4 * LANES]; NIBBLE_VECTORS],
        rows: [[Quad; QUADS]; ROWS],
    }

    /// What the operations give for some inputs.
    #[derive(Debug, Default, PartialEq)]
    struct Outcome {
        widened: [f32; LANES],
        pairs: [f32; LANES],
        bytes: [[f32; LANES]; ROWS],
        nibbles: [[f32; LANES]; ROWS],
    }

    fn pair(first: f32, second: f32) -> Pair {
        Pair::from_stored(&Storage::Bf16.encode(&[first, second]))
    }

    #[expect(clippy::inline_always, reason = "compiled for each instruction set")]
    #[inline(always)]
    fn operate<L: Lanes>(inputs: &Inputs, outcome: &mut Outcome) {
        let halves: [u16; LANES] = std::array::from_fn(|lane| f16::from_f32(lane as f32 / 8.0 - 1.0).to_bits());
        L::load_f16(&halves).store(&mut outcome.widened);
        let pairs: [Pair; LANES] = std::array::from_fn(|lane| pair(lane as f32 - 7.5, lane as f32 / 16.0));
        L::dot_pairs(L::pairs(&pairs), pair(-3.0, 0.25), L::splat(100.0)).store(&mut outcome.pairs);
        for (row, found) in inputs.rows.iter().zip(&mut outcome.bytes) {
            let quads = row.iter().zip(&inputs.bytes);
            let total = quads.clone().flat_map(|(quad, _)| quad.bytes).map(i32::from).sum();
            let mut sums = L::byte_sums(total);
            for (quad, bytes) in quads {
                sums = L::dot_bytes(L::bytes(bytes), *quad, sums);
            }
            L::from_integers(sums).store(found);
        }
        let products = L::nibble_products(&inputs.bytes, inputs.rows.each_ref(), [START, 0]);
        for (products, found) in products.into_iter().zip(&mut outcome.nibbles) {
            L::from_integers(products).store(found);
        }
    }

    /// The definition: sums of products of what bytes stand for and values.
    fn expected(inputs: &Inputs) -> Outcome {
        let sum =
            |quads: std::ops::Range<usize>, row: usize, lane: usize, weight: &dyn Fn(usize, usize) -> i32| -> i32 {
                let products = |quad: usize| {
                    (0..4).map(move |i| weight(quad, 4 * lane + i) * i32::from(inputs.rows[row][quad].bytes[i]))
                };
                quads.flat_map(products).sum()
            };
        let byte = |quad: usize, at: usize| i32::from(inputs.bytes[quad][at]) - OFFSET;
        let nibble = |quad: usize, at: usize| {
            let byte = inputs.bytes[quad % NIBBLE_VECTORS][at];
            i32::from(if quad < NIBBLE_VECTORS { byte & 15 } else { byte >> 4 })
        };
        let lanes = |of: &dyn Fn(usize) -> i32| -> [f32; LANES] { std::array::from_fn(|lane| of(lane) as f32) };
        Outcome {
            widened: std::array::from_fn(|lane| lane as f32 / 8.0 - 1.0),
            pairs: std::array::from_fn(|lane| 100.0 - 3.0 * (lane as f32 - 7.5) + 0.25 * (lane as f32 / 16.0)),
            bytes: [0, 1].map(|row| lanes(&|lane| sum(0..NIBBLE_VECTORS, row, lane, &byte))),
            nibbles: [0, 1].map(|row| lanes(&|lane| [START, 0][row] + sum(0..QUADS, row, lane, &nibble))),
        }
    }

    #[test]
    fn instruction_sets_agree_with_the_definition_at_the_extremes() {
        for fill in [0, 0x7f, 0x80, 0xff] {
            for values in [[127; 4], [-127; 4], [-127, 127, 1, -1], [100, -3, 0, 90]] {
                let bytes = |vector| std::array::from_fn(|i| if i % 7 == 3 { (i + vector) as u8 } else { fill });
                let opposite = values.map(|value: i8| -value);
                let rows = [[Quad { bytes: values }; QUADS], [Quad { bytes: opposite }; QUADS]];
                let inputs = Inputs { bytes: std::array::from_fn(bytes), rows };
                for set in InstructionSet::available() {
                    let mut found = Outcome::default();
                    let (inputs, outcome) = (&inputs, &mut found);
                    dispatch!(set, fn operate(inputs: &Inputs, outcome: &mut Outcome));
                    assert_eq!(found, expected(inputs), "{set}");
                }
            }
        }
    }
}
