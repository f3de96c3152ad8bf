#![expect(unsafe_code, reason = "vector intrinsics")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Lanes in two registers of eight.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_madd_epi16, _mm256_mul_ps,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_srli_epi16,
};
use std::mem::transmute;

use super::{LANES, Lanes};
use crate::kernels::activations::Quad;

// SAFETY of all methods: see the module above; arrays and vectors have the same bytes. (The load and store intrinsics check their
// pointers in debug builds, which costs more than the arithmetic.)

/// Two registers.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in crate::kernels) struct Avx2Lanes(__m256, __m256);

/// Factors widened to sixteen bits: products of a pair, one of each quad, are summed up by one instruction.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Wide {
    /// Factors 0 and 2 of each lane.
    even: [__m256i; 2],
    /// Factors 1 and 3.
    odd: [__m256i; 2],
}

impl Wide {
    #[inline(always)]
    fn of([low, high]: [__m256i; 2]) -> Self {
        // No closures here: they would not be compiled for the instruction set.
        unsafe {
            let mask = _mm256_set1_epi16(0xff);
            Self {
                even: [_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)],
                odd: [_mm256_srli_epi16::<8>(low), _mm256_srli_epi16::<8>(high)],
            }
        }
    }
}

impl Lanes for Avx2Lanes {
    const REGISTERS: usize = 8;
    type Integers = [__m256i; 2];
    type Factors = Wide;

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
    fn load_bf16(bits: &[u16; LANES]) -> Self {
        unsafe {
            let [low, high] = transmute::<[u16; LANES], [__m128i; 2]>(*bits);
            let (low, high) = (_mm256_cvtepu16_epi32(low), _mm256_cvtepu16_epi32(high));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)))
        }
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
    fn splat_integer(value: i32) -> [__m256i; 2] {
        [unsafe { _mm256_set1_epi32(value) }; 2]
    }

    #[inline(always)]
    fn from_integers(integers: [__m256i; 2]) -> Self {
        unsafe { Self(_mm256_cvtepi32_ps(integers[0]), _mm256_cvtepi32_ps(integers[1])) }
    }

    #[inline(always)]
    fn bytes(bytes: &[u8; 4 * LANES]) -> Wide {
        Wide::of(unsafe { transmute::<[u8; 4 * LANES], [__m256i; 2]>(*bytes) })
    }

    #[inline(always)]
    fn nibbles(bytes: &[u8; 4 * LANES]) -> [Wide; 2] {
        unsafe {
            let [low, high] = transmute::<[u8; 4 * LANES], [__m256i; 2]>(*bytes);
            let mask = _mm256_set1_epi16(0x0f0f);
            let upper = [_mm256_srli_epi16::<4>(low), _mm256_srli_epi16::<4>(high)];
            let lower = [_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)];
            let upper = [_mm256_and_si256(upper[0], mask), _mm256_and_si256(upper[1], mask)];
            [Wide::of(lower), Wide::of(upper)]
        }
    }

    #[inline(always)]
    fn dot(factors: Wide, quad: &Quad, sums: [__m256i; 2]) -> [__m256i; 2] {
        unsafe {
            let (even, odd) = (_mm256_set1_epi32(quad.even()), _mm256_set1_epi32(quad.odd()));
            let low = _mm256_add_epi32(sums[0], _mm256_madd_epi16(factors.even[0], even));
            let high = _mm256_add_epi32(sums[1], _mm256_madd_epi16(factors.even[1], even));
            [
                _mm256_add_epi32(low, _mm256_madd_epi16(factors.odd[0], odd)),
                _mm256_add_epi32(high, _mm256_madd_epi16(factors.odd[1], odd)),
            ]
        }
    }

    #[inline(always)]
    fn prefetch<T>(address: *const T) {
        // SAFETY: a prefetch of an invalid address does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}
