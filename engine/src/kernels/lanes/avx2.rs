#![expect(unsafe_code, reason = "vector intrinsics")]
#![expect(clippy::needless_range_loop, reason = "plain loops become vector instructions, closures may not")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Lanes in two registers of eight.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_sign_epi8, _mm256_slli_epi32, _mm256_srli_epi16, _mm256_xor_si256,
};
use std::mem::transmute;

use super::{LANES, Lanes, NIBBLE_VECTORS};
use crate::kernels::activations::{HIGH_HALF, Pair, Quad};

// SAFETY of all methods: see the module above; arrays and vectors have the same bytes. (The load and store intrinsics check their
// pointers in debug builds, which costs more than the arithmetic.)

/// Two registers.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in crate::kernels) struct Avx2Lanes(__m256, __m256);

/// Bytes with a sign: their magnitudes, and the bytes themselves, which give their signs to what they are multiplied with.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Signed {
    magnitudes: [__m256i; 2],
    signs: [__m256i; 2],
}

impl Lanes for Avx2Lanes {
    const REGISTERS: usize = 8;
    type Integers = [__m256i; 2];
    type Bytes = Signed;
    type Pairs = [Self; 2];

    #[inline(always)]
    fn splat(value: f32) -> Self {
        let half = unsafe { _mm256_set1_ps(value) };
        Self(half, half)
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        unsafe { transmute::<[f32; LANES], Self>(*values) }
    }

    #[inline(always)]
    fn load_f16(bits: &[u16; LANES]) -> Self {
        unsafe {
            let [low, high] = transmute::<[u16; LANES], [__m128i; 2]>(*bits);
            Self(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
        }
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        *values = unsafe { transmute::<Self, [f32; LANES]>(self) };
    }

    #[inline(always)]
    fn multiply(self, other: Self) -> Self {
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, addend: Self) -> Self {
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0), _mm256_fmadd_ps(self.1, factor.1, addend.1)) }
    }

    #[inline(always)]
    fn pairs(pairs: &[Pair; LANES]) -> [Self; 2] {
        unsafe {
            let [a, b] = transmute::<[Pair; LANES], [__m256i; 2]>(*pairs);
            let half = _mm256_set1_epi32(HIGH_HALF);
            let first = [_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b)];
            let second = [_mm256_and_si256(a, half), _mm256_and_si256(b, half)];
            [first, second].map(|[a, b]| Self(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)))
        }
    }

    #[inline(always)]
    fn dot_pairs([first, second]: [Self; 2], pair: Pair, sums: Self) -> Self {
        second.multiply_add(Self::splat(pair.second()), first.multiply_add(Self::splat(pair.first()), sums))
    }

    #[inline(always)]
    fn splat_integer(value: i32) -> [__m256i; 2] {
        [unsafe { _mm256_set1_epi32(value) }; 2]
    }

    #[inline(always)]
    fn from_integers(integers: [__m256i; 2]) -> Self {
        unsafe { Self(_mm256_cvtepi32_ps(integers[0]), _mm256_cvtepi32_ps(integers[1])) }
    }

    #[inline(always)]
    fn bytes(bytes: &[u8; 4 * LANES]) -> Signed {
        unsafe {
            let [low, high] = transmute::<[u8; 4 * LANES], [__m256i; 2]>(*bytes);
            let offset = _mm256_set1_epi8(i8::MIN);
            let signs = [_mm256_xor_si256(low, offset), _mm256_xor_si256(high, offset)];
            Signed { magnitudes: [_mm256_abs_epi8(signs[0]), _mm256_abs_epi8(signs[1])], signs }
        }
    }

    #[inline(always)]
    fn byte_sums(_: i32) -> [__m256i; 2] {
        Self::splat_integer(0)
    }

    #[inline(always)]
    fn dot_bytes(bytes: Signed, quad: Quad, sums: [__m256i; 2]) -> [__m256i; 2] {
        unsafe {
            let (values, ones) = (_mm256_set1_epi32(quad.packed()), _mm256_set1_epi16(1));
            // A pair is at most 2 * 128 * 127, which sixteen bits hold; two pairs they would not.
            let low = _mm256_maddubs_epi16(bytes.magnitudes[0], _mm256_sign_epi8(values, bytes.signs[0]));
            let high = _mm256_maddubs_epi16(bytes.magnitudes[1], _mm256_sign_epi8(values, bytes.signs[1]));
            [
                _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, ones)),
                _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, ones)),
            ]
        }
    }

    /// One half of the lanes after the other: its nibbles stay in registers while the rows pass.
    #[inline(always)]
    fn nibble_products<const ROWS: usize>(
        bytes: &[[u8; 4 * LANES]; NIBBLE_VECTORS],
        rows: [&[Quad; 2 * NIBBLE_VECTORS]; ROWS],
        starts: [i32; ROWS],
    ) -> [[__m256i; 2]; ROWS] {
        let mut products = [Self::splat_integer(0); ROWS];
        for half in 0..2 {
            unsafe {
                let mask = _mm256_set1_epi8(0x0f);
                let mut nibbles = [_mm256_setzero_si256(); 2 * NIBBLE_VECTORS];
                for vector in 0..NIBBLE_VECTORS {
                    let bytes = transmute::<[u8; 4 * LANES], [__m256i; 2]>(bytes[vector])[half];
                    nibbles[vector] = _mm256_and_si256(bytes, mask);
                    nibbles[vector + NIBBLE_VECTORS] = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                }
                for row in 0..ROWS {
                    // A pair of products is at most 2 * 15 * 127: sixteen bits hold the sum of eight.
                    let mut sums = _mm256_setzero_si256();
                    for quad in 0..2 * NIBBLE_VECTORS {
                        let values = _mm256_set1_epi32(rows[row][quad].packed());
                        sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(nibbles[quad], values));
                    }
                    let wide = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
                    products[row][half] = _mm256_add_epi32(_mm256_set1_epi32(starts[row]), wide);
                }
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
