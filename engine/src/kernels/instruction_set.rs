//! Which vector instructions the kernels use: chosen once, at run time.

use std::fmt;

/// Vector instructions of the kernels. Results differ in rounding between instruction sets, never within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstructionSet {
    /// As [`InstructionSet::Avx512`], with dot products of bfloat16 (AVX512-BF16).
    Avx512Bf16,
    /// 512-bit vectors with fused multiply-add and eight-bit dot products (AVX-512 with VNNI).
    Avx512,
    /// 256-bit vectors with fused multiply-add and half precision (x86-64-v3).
    Avx2,
    /// Whatever the compiler makes of plain code; multiplication and addition round separately.
    Portable,
}

impl InstructionSet {
    /// All of them, the best first.
    const ALL: [Self; 4] = [Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];

    /// Those that this processor has, the best first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|set| set.is_available())
    }

    /// The best that this processor has.
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Avx512Bf16 => false,
            Self::Portable => true,
        }
    }

    /// Its name in reports and fingerprints.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Bf16 => "avx512+vnni+bf16",
            Self::Avx512 => "avx512+vnni",
            Self::Avx2 => "avx2+fma",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Runs the generic kernel `$kernel::<Lanes>(arguments…)` compiled for `$set`.
///
/// `$set` must be available on this processor: `Model::load` refuses others, and nobody else makes kernels.
macro_rules! dispatch {
    ($set:expr, $(#[$meta:meta])* fn $kernel:ident($($name:ident: $type:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn with_avx2($($name: $type),*) {
            $kernel::<$crate::kernels::lanes::Avx2Lanes>($($name),*);
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni")]
        fn with_avx512($($name: $type),*) {
            $kernel::<$crate::kernels::lanes::Avx512Lanes<false>>($($name),*);
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vnni,avx512bf16")]
        fn with_avx512_bf16($($name: $type),*) {
            $kernel::<$crate::kernels::lanes::Avx512Lanes<true>>($($name),*);
        }
        match $set {
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::InstructionSet::Avx512Bf16 => {
                // SAFETY: the instruction set was checked to be available when the model was loaded.
                #[expect(unsafe_code, reason = "calling code compiled for an instruction set that was detected")]
                unsafe { with_avx512_bf16($($name),*) }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::InstructionSet::Avx512 => {
                // SAFETY: the instruction set was checked to be available when the model was loaded.
                #[expect(unsafe_code, reason = "calling code compiled for an instruction set that was detected")]
                unsafe { with_avx512($($name),*) }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::InstructionSet::Avx2 => {
                // SAFETY: the instruction set was checked to be available when the model was loaded.
                #[expect(unsafe_code, reason = "calling code compiled for an instruction set that was detected")]
                unsafe { with_avx2($($name),*) }
            }
            _ => $kernel::<$crate::kernels::lanes::PortableLanes>($($name),*),
        }
    }};
}
pub(super) use dispatch;
