#![expect(clippy::inline_always, reason = "inlined into kernels compiled for an instruction set")]
//! Norm, rotary embedding, exponential and activation: plain code in a fixed order, vectorized by the compiler.

use std::f32::consts::LOG2_E;

use super::lanes::LANES;

/// `RMSNorm` of one row into `output`: `weight * input / sqrt(mean(input²) + epsilon)`.
pub(crate) fn rms_norm(input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    let (chunks, rest) = input.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += chunk[lane] * chunk[lane];
        }
    }
    let mut sum = horizontal_sum(sums);
    for value in rest {
        sum += value * value;
    }
    let scale = 1.0 / (sum / input.len() as f32 + epsilon).sqrt();
    for ((output, input), weight) in output.iter_mut().zip(input).zip(weight) {
        *output = input * scale * weight;
    }
}

/// Sum of all lanes, in an order of its own.
#[inline(always)]
pub(super) fn horizontal_sum(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Appends cosine and sine of the angle of every pair of a head at a position: `2 * frequencies.len()` values.
pub(crate) fn add_rope_angles(position: usize, frequencies: &[f32], angles: &mut Vec<f32>) {
    angles.extend(frequencies.iter().map(|frequency| (position as f32 * frequency).cos()));
    angles.extend(frequencies.iter().map(|frequency| (position as f32 * frequency).sin()));
}

/// Rotates the pairs (i, i + half) of one head in place. `angles` as made by [`add_rope_angles`].
pub(crate) fn rope(head: &mut [f32], angles: &[f32]) {
    let (cosines, sines) = angles.split_at(angles.len() / 2);
    let (first, second) = head.split_at_mut(head.len() / 2);
    for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
        (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
    }
}

/// `gate * sigmoid(gate) * up`, the activation of Llama's feed-forward layer.
#[inline(always)]
pub(super) fn gated_silu(gate: f32, up: f32) -> f32 {
    gate / (1.0 + exponential(-gate)) * up
}

/// e to the `x` within 2 units in the last place; zero below -87. Free of branches and library calls, so that loops over it vectorize.
#[inline(always)]
pub(super) fn exponential(x: f32) -> f32 {
    /// Adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -87.0;
    const HIGHEST: f32 = 88.0;
    let low = if x < LOWEST { LOWEST } else { x };
    let clamped = if low > HIGHEST { HIGHEST } else { low };
    let shifted = clamped * LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = clamped - whole * LN_2_HIGH - whole * LN_2_LOW;
    let mut series = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        series = series * rest + coefficient;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    let value = (series * rest * rest + rest + 1.0) * power;
    if x < LOWEST { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::{exponential, rms_norm, rope};

    #[test]
    fn exponential_is_close_to_the_library_everywhere() {
        for step in -8_700..=8_800_i16 {
            let x = f32::from(step) / 100.0;
            let (found, expected) = (exponential(x), x.exp());
            assert!((found - expected).abs() <= 4e-7 * expected, "exp({x}) = {expected}, found {found}");
        }
        assert_eq!([-1e30, f32::NEG_INFINITY].map(|x| exponential(x).to_bits()), [0; 2]);
        assert!(exponential(f32::NAN).is_nan());
    }

    #[test]
    fn rms_norm_scales_to_the_weight() {
        let input: Vec<f32> = (1..=11_u8).map(f32::from).collect();
        let mut output = vec![0.0; 11];
        rms_norm(&input, &[2.0; 11], 0.0, &mut output);
        let mean_square = output.iter().map(|x| x * x).sum::<f32>() / 11.0;
        assert!((mean_square - 4.0).abs() < 1e-5);
        assert!((output[10] / output[0] - 11.0).abs() < 1e-5);
    }

    #[test]
    fn rope_turns_the_pairs_of_both_halves() {
        let mut head = [1.0, 0.0, 0.0, 1.0];
        rope(&mut head, &[0.6, 1.0, 0.8, 0.0]);
        assert_eq!(head.map(f32::to_bits), [0.6, 0.0, 0.8, 1.0_f32].map(f32::to_bits));
    }
}
