#![expect(unsafe_code, reason = "vector intrinsics")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Lanes in one register of sixteen.

use std::arch::x86_64::{
    __m256i, __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_castsi512_ps,
    _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_srli_epi16,
};
use std::mem::transmute;

use super::{LANES, Lanes, NIBBLE_VECTORS, OFFSET};
use crate::kernels::activations::{HIGH_HALF, Pair, Quad};

// SAFETY of all methods: see the module above; arrays and vectors have the same bytes. (The load and store intrinsics check their
// pointers in debug builds, which costs more than the arithmetic.)

/// One register; `BF16`: dot products of bfloat16 are one instruction.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx512Lanes<const BF16: bool>(__m512);

impl<const BF16: bool> Lanes for Avx512Lanes<BF16> {
    const REGISTERS: usize = 32;
    type Integers = __m512i;
    type Bytes = __m512i;
    type Pairs = __m512i;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        Self(unsafe { transmute::<[f32; LANES], __m512>(*values) })
    }

    #[inline(always)]
    fn load_f16(bits: &[u16; LANES]) -> Self {
        Self(unsafe { _mm512_cvtph_ps(transmute::<[u16; LANES], __m256i>(*bits)) })
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        *values = unsafe { transmute::<__m512, [f32; LANES]>(self.0) };
    }

    #[inline(always)]
    fn multiply(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn pairs(pairs: &[Pair; LANES]) -> __m512i {
        unsafe { transmute::<[Pair; LANES], __m512i>(*pairs) }
    }

    #[inline(always)]
    fn dot_pairs(pairs: __m512i, pair: Pair, sums: Self) -> Self {
        if BF16 {
            unsafe {
                let values = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair.packed()));
                return Self(_mm512_dpbf16_ps(sums.0, transmute::<__m512i, __m512bh>(pairs), values));
            }
        }
        // widened once for all rows: it is the same operation for each
        let [first, second] = unsafe {
            let high = _mm512_and_si512(pairs, _mm512_set1_epi32(HIGH_HALF));
            [Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs))), Self(_mm512_castsi512_ps(high))]
        };
        second.multiply_add(Self::splat(pair.second()), first.multiply_add(Self::splat(pair.first()), sums))
    }

    #[inline(always)]
    fn splat_integer(value: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    fn from_integers(integers: __m512i) -> Self {
        Self(unsafe { _mm512_cvtepi32_ps(integers) })
    }

    #[inline(always)]
    fn bytes(bytes: &[u8; 4 * LANES]) -> __m512i {
        unsafe { transmute::<[u8; 4 * LANES], __m512i>(*bytes) }
    }

    #[inline(always)]
    fn byte_sums(total: i32) -> __m512i {
        Self::splat_integer(-OFFSET * total)
    }

    #[inline(always)]
    fn dot_bytes(bytes: __m512i, quad: Quad, sums: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, bytes, _mm512_set1_epi32(quad.packed())) }
    }

    #[inline(always)]
    fn nibble_products<const ROWS: usize>(
        bytes: &[[u8; 4 * LANES]; NIBBLE_VECTORS],
        rows: [&[Quad; 2 * NIBBLE_VECTORS]; ROWS],
        starts: [i32; ROWS],
    ) -> [__m512i; ROWS] {
        let mut products = [Self::splat_integer(0); ROWS];
        for row in 0..ROWS {
            products[row] = Self::splat_integer(starts[row]);
        }
        for vector in 0..NIBBLE_VECTORS {
            let [low, high] = unsafe {
                let (bytes, mask) = (Self::bytes(&bytes[vector]), _mm512_set1_epi8(0x0f));
                [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
            };
            for row in 0..ROWS {
                products[row] = Self::dot_bytes(low, rows[row][vector], products[row]);
                products[row] = Self::dot_bytes(high, rows[row][vector + NIBBLE_VECTORS], products[row]);
            }
        }
        products
    }

    #[inline(always)]
    fn prefetch<T>(address: *const T) {
        // SAFETY: a prefetch of an invalid address does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}
