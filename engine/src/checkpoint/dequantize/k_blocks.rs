//! Super-blocks of 256 elements, whose scales are small integers themselves, with a common 16-bit factor.

use super::half_at;

pub(super) fn q2(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (factor, minimum_factor) = (half_at(block, 80), half_at(block, 82));
    for (group, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = factor * f32::from(scales[group] & 15);
        let minimum = minimum_factor * f32::from(scales[group] >> 4);
        for (value, quant) in values.iter_mut().zip(two_bits(quants, group)) {
            *value = scale * f32::from(quant) - minimum;
        }
    }
}

pub(super) fn q3(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high_bits, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let factor = half_at(block, 108);
    for (group, values) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = if group < 8 { scales[group] & 15 } else { scales[group - 8] >> 4 };
        let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = factor * (f32::from(low | high << 4) - 32.0);
        // The third bit of every 32 elements is one bit of 32 bytes; where it is missing the element is 4 smaller.
        let third = high_bits[16 * (group % 2)..].iter().map(|byte| byte >> (group / 2) & 1);
        for ((value, quant), third) in values.iter_mut().zip(two_bits(quants, group)).zip(third) {
            *value = scale * (f32::from(quant | third << 2) - 4.0);
        }
    }
}

/// Elements of two bits of one of 16 groups: 32 bytes hold 128 elements, each 32 of them in two bits of every byte.
fn two_bits(quants: &[u8], group: usize) -> impl Iterator<Item = u8> {
    let (half, pair) = (group / 8, group % 8);
    quants[32 * half + 16 * (pair % 2)..].iter().take(16).map(move |byte| byte >> (2 * (pair / 2)) & 3)
}

pub(super) fn q4(block: &[u8; 144], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[4..16], &block[16..]);
    let (factor, minimum_factor) = (half_at(block, 0), half_at(block, 2));
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, group);
        let (scale, minimum) = (factor * scale, minimum_factor * minimum);
        for (value, quant) in values.iter_mut().zip(four_bits(quants, group)) {
            *value = scale * f32::from(quant) - minimum;
        }
    }
}

pub(super) fn q5(block: &[u8; 176], out: &mut [f32; 256]) {
    let (scales, high_bits, quants) = (&block[4..16], &block[16..48], &block[48..]);
    let (factor, minimum_factor) = (half_at(block, 0), half_at(block, 2));
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, group);
        let (scale, minimum) = (factor * scale, minimum_factor * minimum);
        for ((value, quant), high) in values.iter_mut().zip(four_bits(quants, group)).zip(high_bits) {
            *value = scale * f32::from(quant | (high >> group & 1) << 4) - minimum;
        }
    }
}

/// Elements of four bits of one of 8 groups: 32 bytes hold two groups, the first in the low halves.
fn four_bits(quants: &[u8], group: usize) -> impl Iterator<Item = u8> {
    quants[32 * (group / 2)..].iter().take(32).map(move |byte| byte >> (4 * (group % 2)) & 15)
}

/// Eight scales and eight minimums of six bits in twelve bytes: the first four of each whole, the others with their upper two bits in the
/// space that these leave.
fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let byte = packed[group + 4];
        (byte & 15 | packed[group - 4] >> 6 << 4, byte >> 4 | packed[group] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

pub(super) fn q6(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low_bits, high_bits, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let factor = half_at(block, 208);
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        // Each half of the block has four groups; two of them share 32 bytes of low bits, all four 32 bytes of high bits.
        let (half, part) = (group / 4, group % 4);
        for (i, value) in values.iter_mut().enumerate() {
            let low = low_bits[64 * half + 32 * (part % 2) + i] >> (4 * (part / 2)) & 15;
            let high = high_bits[32 * half + i] >> (2 * part) & 3;
            let scale = factor * f32::from(scales[2 * group + i / 16].cast_signed());
            *value = scale * (f32::from(low | high << 4) - 32.0);
        }
    }
}
