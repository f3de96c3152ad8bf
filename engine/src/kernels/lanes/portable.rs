#![expect(clippy::inline_always, reason = "must be inlined into the loops of the kernels")]
//! Lanes in plain code.

use half::f16;

use super::{LANES, Lanes, NIBBLE_VECTORS, OFFSET};
use crate::kernels::activations::{Pair, Quad};

#[derive(Clone, Copy)]
pub(in crate::kernels) struct PortableLanes([f32; LANES]);

impl Lanes for PortableLanes {
    /// Thirty-two registers of four values, as most processors have that are not x86.
    const REGISTERS: usize = 8;
    type Integers = [i32; LANES];
    type Bytes = [[u8; 4]; LANES];
    type Pairs = [Pair; LANES];

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
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
    fn pairs(pairs: &[Pair; LANES]) -> [Pair; LANES] {
        *pairs
    }

    #[inline(always)]
    fn dot_pairs(pairs: [Pair; LANES], pair: Pair, sums: Self) -> Self {
        let [first, second] = [Self(pairs.map(Pair::first)), Self(pairs.map(Pair::second))];
        second.multiply_add(Self::splat(pair.second()), first.multiply_add(Self::splat(pair.first()), sums))
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
    fn bytes(bytes: &[u8; 4 * LANES]) -> Self::Bytes {
        std::array::from_fn(|lane| std::array::from_fn(|i| bytes[4 * lane + i]))
    }

    #[inline(always)]
    fn byte_sums(total: i32) -> [i32; LANES] {
        [-OFFSET * total; LANES]
    }

    #[inline(always)]
    fn dot_bytes(bytes: Self::Bytes, quad: Quad, mut sums: [i32; LANES]) -> [i32; LANES] {
        for (sum, bytes) in sums.iter_mut().zip(bytes) {
            for (byte, value) in bytes.into_iter().zip(quad.bytes) {
                *sum += i32::from(byte) * i32::from(value);
            }
        }
        sums
    }

    #[inline(always)]
    fn nibble_products<const ROWS: usize>(
        bytes: &[[u8; 4 * LANES]; NIBBLE_VECTORS],
        rows: [&[Quad; 2 * NIBBLE_VECTORS]; ROWS],
        starts: [i32; ROWS],
    ) -> [[i32; LANES]; ROWS] {
        let mut products = [Self::splat_integer(0); ROWS];
        for row in 0..ROWS {
            products[row] = Self::splat_integer(starts[row]);
        }
        for vector in 0..NIBBLE_VECTORS {
            let bytes = Self::bytes(&bytes[vector]);
            let low = bytes.map(|lane| lane.map(|byte| byte & 15));
            let high = bytes.map(|lane| lane.map(|byte| byte >> 4));
            for row in 0..ROWS {
                products[row] = Self::dot_bytes(low, rows[row][vector], products[row]);
                products[row] = Self::dot_bytes(high, rows[row][vector + NIBBLE_VECTORS], products[row]);
            }
        }
        products
    }

    #[inline(always)]
    fn prefetch<T>(_: *const T) {}
}
