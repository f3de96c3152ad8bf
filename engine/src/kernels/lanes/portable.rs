#![expect(clippy::inline_always, reason = "must be inlined into the loops of the kernels")]
//! Lanes in plain code.

use half::{bf16, f16};

use super::{LANES, Lanes};
use crate::kernels::activations::Quad;

#[derive(Clone, Copy)]
pub(in crate::kernels) struct PortableLanes([f32; LANES]);

impl Lanes for PortableLanes {
    /// Thirty-two registers of four values, as most processors have that are not x86.
    const REGISTERS: usize = 8;
    type Integers = [i32; LANES];
    type Factors = [[u8; 4]; LANES];

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn load_bf16(bits: &[u16; LANES]) -> Self {
        Self(bits.map(|bits| bf16::from_bits(bits).to_f32()))
    }

    #[inline(always)]
    fn load_f16(bits: &[u16; LANES]) -> Self {
        Self(bits.map(|bits| f16::from_bits(bits).to_f32()))
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        *values = self.0;
    }

    #[inline(always)]
    fn multiply(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + addend.0[i]))
    }

    #[inline(always)]
    fn splat_integer(value: i32) -> [i32; LANES] {
        [value; LANES]
    }

    #[inline(always)]
    fn from_integers(integers: [i32; LANES]) -> Self {
        Self(integers.map(|integer| integer as f32))
    }

    #[inline(always)]
    fn bytes(bytes: &[u8; 4 * LANES]) -> Self::Factors {
        std::array::from_fn(|lane| std::array::from_fn(|i| bytes[4 * lane + i]))
    }

    #[inline(always)]
    fn nibbles(bytes: &[u8; 4 * LANES]) -> [Self::Factors; 2] {
        let bytes = Self::bytes(bytes);
        [bytes.map(|lane| lane.map(|byte| byte & 15)), bytes.map(|lane| lane.map(|byte| byte >> 4))]
    }

    #[inline(always)]
    fn dot(factors: Self::Factors, quad: &Quad, mut sums: [i32; LANES]) -> [i32; LANES] {
        for (sum, factors) in sums.iter_mut().zip(factors) {
            for (factor, value) in factors.into_iter().zip(quad.bytes) {
                *sum += i32::from(factor) * i32::from(value);
            }
        }
        sums
    }

    #[inline(always)]
    fn prefetch<T>(_: *const T) {}
}
