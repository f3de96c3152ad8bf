#![expect(unsafe_code, reason = "vector intrinsics")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Sixteen f32 side by side. Kernels are written once over [`Lanes`] and compiled for each instruction set.
//!
//! Methods of [`Avx2Lanes`] and [`Avx512Lanes`] may only run where these instructions are available: `dispatch!` is the one place
//! that instantiates kernels with them, behind that check.

/// Number of values of a vector: those of a cache line.
pub(crate) const LANES: usize = 16;

/// A vector of sixteen f32. Every operation is lane by lane.
pub(super) trait Lanes: Copy {
    /// Vectors that registers can hold at a time.
    const REGISTERS: usize;
    fn splat(value: f32) -> Self;
    fn load(values: &[f32; LANES]) -> Self;
    fn store(self, values: &mut [f32; LANES]);
    fn multiply(self, other: Self) -> Self;
    /// `self * factor + addend`: one rounding with FMA, two without, but always the same within an instruction set.
    fn multiply_add(self, factor: Self, addend: Self) -> Self;
    /// Asks for the cache line at an address, which need not be valid: nothing is read.
    fn prefetch<T>(address: *const T);
}

#[derive(Clone, Copy)]
pub(super) struct PortableLanes([f32; LANES]);

impl Lanes for PortableLanes {
    /// Thirty-two registers of four values, as most processors have that are not x86.
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
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
    fn prefetch<T>(_: *const T) {}
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2Lanes;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512Lanes;

// SAFETY of all methods of both: see the module; arrays and vectors have the same bytes. (The load and store intrinsics check their
// pointers in debug builds, which costs more than the arithmetic.)

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m256, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_mul_ps, _mm256_set1_ps};
    use std::mem::transmute;

    use super::{LANES, Lanes};

    /// Two registers.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub(in crate::kernels) struct Avx2Lanes(__m256, __m256);

    impl Lanes for Avx2Lanes {
        const REGISTERS: usize = 8;

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
        fn prefetch<T>(address: *const T) {
            // SAFETY: a prefetch of an invalid address does nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{__m512, _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_ps};
    use std::mem::transmute;

    use super::{LANES, Lanes};

    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Avx512Lanes(__m512);

    impl Lanes for Avx512Lanes {
        const REGISTERS: usize = 32;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(values: &[f32; LANES]) -> Self {
            Self(unsafe { transmute::<[f32; LANES], __m512>(*values) })
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
        fn prefetch<T>(address: *const T) {
            // SAFETY: a prefetch of an invalid address does nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }
    }
}
