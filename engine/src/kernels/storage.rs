//! How weights lie in memory, and how one row of a matrix is written in each way.

use std::fmt;

use half::{bf16, f16};

use super::activations::BLOCK;

/// How the weights of linear layers are stored. The quantised ones are those of GGUF files: blocks of thirty-two weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Storage {
    /// Four bits, a scale and a smallest value for each block.
    Q4_1,
    /// Four bits and a scale for each block.
    Q4_0,
    /// Eight bits and a scale for each block.
    Q8_0,
    /// bfloat16. Inputs are rounded to it as well, as on GPUs; sums are f32.
    Bf16,
    /// 32 bits.
    F32,
}

impl Storage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::Bf16, Self::Q8_0, Self::Q4_0, Self::Q4_1];

    /// Its name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
        }
    }

    /// Inputs of a layer come in multiples of so many.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 => BLOCK,
        }
    }

    /// Bytes of a block of a row.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Q8_0 => 2 + BLOCK,
            Self::Q4_0 => 2 + BLOCK / 2,
            Self::Q4_1 => 4 + BLOCK / 2,
        }
    }

    /// A row of weights as this storage writes it: little-endian, block after block.
    pub(crate) fn encode(self, row: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => row.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16 => row.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            Self::Q8_0 => row.as_chunks().0.iter().flat_map(encode_q8_0).collect(),
            Self::Q4_0 => row.as_chunks().0.iter().flat_map(encode_q4_0).collect(),
            Self::Q4_1 => row.as_chunks().0.iter().flat_map(encode_q4_1).collect(),
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn encode_q8_0(block: &[f32; BLOCK]) -> [u8; 2 + BLOCK] {
    let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let mut bytes = [0; 2 + BLOCK];
    bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (byte, value) in bytes[2..].iter_mut().zip(block) {
        *byte = (value * inverse(scale)).round() as i8 as u8;
    }
    bytes
}

/// The weight of largest magnitude becomes -8, which has no positive counterpart.
fn encode_q4_0(block: &[f32; BLOCK]) -> [u8; 2 + BLOCK / 2] {
    let largest =
        block.iter().fold(0.0_f32, |largest, &value| if value.abs() > largest.abs() { value } else { largest });
    let scale = largest / -8.0;
    let mut bytes = [0; 2 + BLOCK / 2];
    bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    encode_nibbles(block, &mut bytes[2..], |value| value * inverse(scale) + 8.5);
    bytes
}

fn encode_q4_1(block: &[f32; BLOCK]) -> [u8; 4 + BLOCK / 2] {
    let smallest = block.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (largest - smallest) / 15.0;
    let mut bytes = [0; 4 + BLOCK / 2];
    bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    bytes[2..4].copy_from_slice(&f16::from_f32(smallest).to_le_bytes());
    encode_nibbles(block, &mut bytes[4..], |value| (value - smallest) * inverse(scale) + 0.5);
    bytes
}

/// The first half of a block goes into the lower, the second into the upper halves of the bytes.
fn encode_nibbles(block: &[f32; BLOCK], bytes: &mut [u8], level: impl Fn(f32) -> f32) {
    let (first, second) = block.split_at(BLOCK / 2);
    for ((byte, first), second) in bytes.iter_mut().zip(first).zip(second) {
        // the conversion cuts off, and ends at zero
        let [low, high] = [first, second].map(|&value| (level(value) as u8).min(15));
        *byte = high << 4 | low;
    }
}
