//! How weights are stored: element types and block types, with their sizes.

use super::dequantize;

/// Types in which weights may be stored. Those from `Q8_0` on are blocks of GGUF: a few small integers with their scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits, 8 of them exponent.
    Bf16,
    /// 16 bits, 5 of them exponent.
    F16,
    /// 32 elements of 8 bits, one scale.
    Q8_0,
    /// 32 elements of 4 bits, one scale.
    Q4_0,
    /// 32 elements of 4 bits, a scale and a minimum.
    Q4_1,
    /// 32 elements of 5 bits, one scale.
    Q5_0,
    /// 32 elements of 5 bits, a scale and a minimum.
    Q5_1,
    /// 256 elements of 2 bits; a scale and a minimum for every 16.
    Q2K,
    /// 256 elements of 3 bits; a scale for every 16.
    Q3K,
    /// 256 elements of 4 bits; a scale and a minimum for every 32.
    Q4K,
    /// 256 elements of 5 bits; a scale and a minimum for every 32.
    Q5K,
    /// 256 elements of 6 bits; a scale for every 16.
    Q6K,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::Bf16,
        Self::F16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The usual name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Elements of a block; rows consist of whole blocks. 1 for plain numbers.
    pub fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Values of whole blocks, as ggml defines them; what follows the last whole block is left out.
    pub fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        dequantize::to_f32(self, bytes)
    }
}
