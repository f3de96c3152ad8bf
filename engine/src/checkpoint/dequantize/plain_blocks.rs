//! Blocks of 32 elements with one scale, and perhaps a minimum. Of a byte with two elements the low half belongs to the first 16.

use super::half_at;

pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (value, &byte) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(byte.cast_signed()) * scale;
    }
}

pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (i, &byte) in block[2..].iter().enumerate() {
        out[i] = (f32::from(byte & 15) - 8.0) * scale;
        out[i + 16] = (f32::from(byte >> 4) - 8.0) * scale;
    }
}

pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (i, &byte) in block[4..].iter().enumerate() {
        out[i] = f32::from(byte & 15) * scale + minimum;
        out[i + 16] = f32::from(byte >> 4) * scale + minimum;
    }
}

pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (value, five) in out.iter_mut().zip(five_bits(&block[2..])) {
        *value = (five - 16.0) * scale;
    }
}

pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (value, five) in out.iter_mut().zip(five_bits(&block[4..])) {
        *value = five * scale + minimum;
    }
}

/// Four bytes with the fifth bit of each element, then 16 bytes with the other four.
fn five_bits(bytes: &[u8]) -> impl Iterator<Item = f32> {
    (0..32).map(|i| {
        let byte = bytes[4 + i % 16];
        let low = if i < 16 { byte & 15 } else { byte >> 4 };
        let high = bytes[i / 8] >> (i % 8) & 1;
        f32::from(low | high << 4)
    })
}
