//! Blocks of GGUF to f32. Products and sums are taken in the order of ggml's reference code, so that values agree bit for bit.
//!
//! Layouts: <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>. Numbers are little-endian.

mod k_blocks;
mod plain_blocks;

use half::{bf16, f16};

use super::Dtype;

/// Values of whole blocks.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => blocks(bytes, |b, out: &mut [_; 1]| out[0] = f32::from_le_bytes(*b)),
        Dtype::Bf16 => blocks(bytes, |b, out: &mut [_; 1]| out[0] = bf16::from_le_bytes(*b).to_f32()),
        Dtype::F16 => blocks(bytes, |b, out: &mut [_; 1]| out[0] = f16::from_le_bytes(*b).to_f32()),
        Dtype::Q8_0 => blocks(bytes, plain_blocks::q8_0),
        Dtype::Q4_0 => blocks(bytes, plain_blocks::q4_0),
        Dtype::Q4_1 => blocks(bytes, plain_blocks::q4_1),
        Dtype::Q5_0 => blocks(bytes, plain_blocks::q5_0),
        Dtype::Q5_1 => blocks(bytes, plain_blocks::q5_1),
        Dtype::Q2K => blocks(bytes, k_blocks::q2),
        Dtype::Q3K => blocks(bytes, k_blocks::q3),
        Dtype::Q4K => blocks(bytes, k_blocks::q4),
        Dtype::Q5K => blocks(bytes, k_blocks::q5),
        Dtype::Q6K => blocks(bytes, k_blocks::q6),
    }
}

/// Decodes block after block of `BYTES` bytes to `ELEMENTS` values each.
fn blocks<const BYTES: usize, const ELEMENTS: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut values = vec![0.0; blocks.len() * ELEMENTS];
    for (block, out) in blocks.iter().zip(values.as_chunks_mut::<ELEMENTS>().0) {
        decode(block, out);
    }
    values
}

/// The 16-bit number that stands at `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
