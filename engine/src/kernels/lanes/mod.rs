//! Sixteen f32, or sixteen i32, side by side. Kernels are written once over [`Lanes`] and compiled for each instruction set.
//!
//! Methods of [`Avx2Lanes`] and [`Avx512Lanes`] may only run where these instructions are available: `dispatch!` is the one place
//! that instantiates kernels with them, behind that check.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::activations::Quad;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2Lanes;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512Lanes;
pub(super) use portable::PortableLanes;

/// Number of values of a vector: those of a cache line.
pub(crate) const LANES: usize = 16;

/// A vector of sixteen f32. Every operation is lane by lane. Integer operations are exact, so that instruction sets agree on them.
pub(super) trait Lanes: Copy {
    /// Vectors that registers can hold at a time.
    const REGISTERS: usize;
    /// Sixteen i32.
    type Integers: Copy;
    /// Four small unsigned factors for each lane, as [`Lanes::dot`] wants them.
    type Factors: Copy;

    fn splat(value: f32) -> Self;
    fn load(values: &[f32; LANES]) -> Self;
    /// Widens bfloat16, given by their bits.
    fn load_bf16(bits: &[u16; LANES]) -> Self;
    /// Widens half precision, given by their bits.
    fn load_f16(bits: &[u16; LANES]) -> Self;
    fn store(self, values: &mut [f32; LANES]);
    fn multiply(self, other: Self) -> Self;
    /// `self * factor + addend`: one rounding with FMA, two without, but always the same within an instruction set.
    fn multiply_add(self, factor: Self, addend: Self) -> Self;

    fn splat_integer(value: i32) -> Self::Integers;
    /// Exact below 2²⁴.
    fn from_integers(integers: Self::Integers) -> Self;
    /// Bytes of lane `i` are `bytes[4 * i..4 * i + 4]`.
    fn bytes(bytes: &[u8; 4 * LANES]) -> Self::Factors;
    /// The lower and the upper halves of the bytes.
    fn nibbles(bytes: &[u8; 4 * LANES]) -> [Self::Factors; 2];
    /// Adds to each lane the four products of its factors and the values of the quad.
    fn dot(factors: Self::Factors, quad: &Quad, sums: Self::Integers) -> Self::Integers;

    /// Asks for the cache line at an address, which need not be valid: nothing is read.
    fn prefetch<T>(address: *const T);
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{LANES, Lanes};
    use crate::kernels::InstructionSet;
    use crate::kernels::activations::Quad;
    use crate::kernels::instruction_set::dispatch;

    /// What the operations give for some inputs.
    #[derive(Debug, Default, PartialEq)]
    struct Outcome {
        widened: [[f32; LANES]; 2],
        dots: [[f32; LANES]; 3],
    }

    #[expect(clippy::inline_always, reason = "compiled for each instruction set")]
    #[inline(always)]
    fn operate<L: Lanes>(bytes: &[u8; 4 * LANES], quad: &Quad, outcome: &mut Outcome) {
        let halves: [u16; LANES] = std::array::from_fn(|lane| f16::from_f32(lane as f32 / 8.0 - 1.0).to_bits());
        L::load_f16(&halves).store(&mut outcome.widened[0]);
        let halves: [u16; LANES] = std::array::from_fn(|lane| bf16::from_f32(lane as f32 - 7.5).to_bits());
        L::load_bf16(&halves).store(&mut outcome.widened[1]);
        let [low, high] = L::nibbles(bytes);
        for (dot, factors) in outcome.dots.iter_mut().zip([L::bytes(bytes), low, high]) {
            L::from_integers(L::dot(factors, quad, L::splat_integer(-1000))).store(dot);
        }
    }

    #[test]
    fn instruction_sets_agree_with_the_definition_at_the_extremes() {
        for (fill, values) in [(255, [127; 4]), (255, [-128; 4]), (0x80, [-127, 127, 1, -1]), (7, [100, -3, 0, 90])] {
            let bytes: [u8; 4 * LANES] = std::array::from_fn(|i| if i % 7 == 3 { i as u8 } else { fill });
            let quad = Quad::new(values);
            let dot = |part: fn(u8) -> u8| -> [f32; LANES] {
                std::array::from_fn(|lane| {
                    let products = (0..4).map(|i| i32::from(part(bytes[4 * lane + i])) * i32::from(values[i]));
                    (products.sum::<i32>() - 1000) as f32
                })
            };
            let expected = Outcome {
                widened: [
                    std::array::from_fn(|lane| lane as f32 / 8.0 - 1.0),
                    std::array::from_fn(|lane| lane as f32 - 7.5),
                ],
                dots: [dot(|byte| byte), dot(|byte| byte & 15), dot(|byte| byte >> 4)],
            };
            for set in InstructionSet::available() {
                let mut found = Outcome::default();
                let (bytes, quad, outcome) = (&bytes, &quad, &mut found);
                dispatch!(set, fn operate(bytes: &[u8; 4 * LANES], quad: &Quad, outcome: &mut Outcome));
                assert_eq!(found, expected, "{set}");
            }
        }
    }
}
