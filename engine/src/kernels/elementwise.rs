#![expect(clippy::inline_always, reason = "inlined into kernels compiled for an instruction set")]
//! Norm, rotary embedding, exponential and activation: plain code in a fixed order, vectorized by the compiler.

use std::f32::consts::LOG2_E;

use super::InstructionSet;
use super::instruction_set::dispatch;
use super::lanes::{LANES, Lanes};

/// `RMSNorm` of rows of the length of `weight` into `output`: `weight * input / sqrt(mean(input²) + epsilon)`.
pub(crate) fn rms_norm(set: InstructionSet, input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    dispatch!(set, fn rms_norm_rows(input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]));
}

#[inline(always)]
fn rms_norm_rows<L: Lanes>(input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    for (input, output) in input.chunks_exact(weight.len()).zip(output.chunks_exact_mut(weight.len())) {
        let scale = 1.0 / (sum_of_squares::<L>(input) / input.len() as f32 + epsilon).sqrt();
        for ((output, input), weight) in output.iter_mut().zip(input).zip(weight) {
            *output = input * scale * weight;
        }
    }
}

#[inline(always)]
fn sum_of_squares<L: Lanes>(values: &[f32]) -> f32 {
    /// Chains that hide each other's latency.
    const CHAINS: usize = 4;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (groups, single) = chunks.as_chunks::<CHAINS>();
    let mut sums = [L::splat(0.0); CHAINS];
    for group in groups {
        for (sum, chunk) in sums.iter_mut().zip(group) {
            let values = L::load(chunk);
            *sum = values.multiply_add(values, *sum);
        }
    }
    for (sum, chunk) in sums.iter_mut().zip(single) {
        let values = L::load(chunk);
        *sum = values.multiply_add(values, *sum);
    }
    let mut lanes = [[0.0; LANES]; CHAINS];
    for (lanes, sum) in lanes.iter_mut().zip(sums) {
        sum.store(lanes);
    }
    let lanes = std::array::from_fn(|lane| (lanes[0][lane] + lanes[1][lane]) + (lanes[2][lane] + lanes[3][lane]));
    rest.iter().fold(horizontal_sum(lanes), |sum, value| sum + value * value)
}

/// Sum of all lanes, in an order of its own.
#[inline(always)]
pub(super) fn horizontal_sum(lanes: [f32; LANES]) -> f32 {
    let (low, high) = lanes.split_at(LANES / 2);
    let [a, b, c, d, e, f, g, h] = std::array::from_fn(|i| low[i] + high[i]);
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Appends cosine and sine of the angle of every pair of a head at a position: `2 * frequencies.len()` values.
pub(crate) fn add_rope_angles(position: usize, frequencies: &[f32], angles: &mut Vec<f32>) {
    angles.extend(frequencies.iter().map(|frequency| (position as f32 * frequency).cos()));
    angles.extend(frequencies.iter().map(|frequency| (position as f32 * frequency).sin()));
}

/// Rotates the pairs (i, i + half) of one head in place. `angles` as made by [`add_rope_angles`].
#[inline(always)]
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

/// `exp(value - highest)` of each value into `output`, and their sum in an order of its own.
pub(crate) fn exponentials(set: InstructionSet, values: &[f32], highest: f32, output: &mut [f32]) -> f64 {
    /// Values that are summed up in f32.
    const PART: usize = 64 * LANES;
    let mut total = 0.0;
    for (values, output) in values.chunks(PART).zip(output.chunks_mut(PART)) {
        let sum = &mut 0.0;
        dispatch!(set, fn exponentials_of(values: &[f32], highest: f32, output: &mut [f32], sum: &mut f32));
        total += f64::from(*sum);
    }
    total
}

#[inline(always)]
fn exponentials_of<L: Lanes>(values: &[f32], highest: f32, output: &mut [f32], sum: &mut f32) {
    let (whole, rest) = values.as_chunks::<LANES>();
    let (whole_output, rest_output) = output.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for (values, output) in whole.iter().zip(whole_output) {
        for lane in 0..LANES {
            output[lane] = exponential(values[lane] - highest);
            sums[lane] += output[lane];
        }
    }
    for (value, output) in rest.iter().zip(rest_output) {
        *output = exponential(value - highest);
        sums[0] += *output;
    }
    *sum = horizontal_sum(sums);
}

/// Index of the highest value, the first among equals; not a number never wins.
pub(crate) fn argmax(values: &[f32]) -> u32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            highest[lane] = if chunk[lane] > highest[lane] { chunk[lane] } else { highest[lane] };
        }
    }
    let highest = highest.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    values.iter().position(|&value| value >= highest).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::{InstructionSet, argmax, exponential, exponentials, rms_norm, rope};

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
    fn rms_norm_scales_each_row_to_the_weight() {
        for set in InstructionSet::available() {
            for width in [1_u8, 11, 16, 75, 150] {
                let row: Vec<f32> = (1..=width).map(f32::from).collect();
                let rows = [&row[..], &row.iter().map(|x| x * 3.0).collect::<Vec<_>>()].concat();
                let mut output = vec![0.0; rows.len()];
                rms_norm(set, &rows, &vec![2.0; row.len()], 0.0, &mut output);
                for output in output.chunks(row.len()) {
                    let mean_square = output.iter().map(|x| x * x).sum::<f32>() / f32::from(width);
                    assert!((mean_square - 4.0).abs() < 1e-5, "{set}, {width} values");
                    assert!(
                        (output[row.len() - 1] / output[0] - f32::from(width)).abs() < 1e-4,
                        "{set}, {width} values"
                    );
                }
            }
        }
    }

    #[test]
    fn rope_turns_the_pairs_of_both_halves() {
        let mut head = [1.0, 0.0, 0.0, 1.0];
        rope(&mut head, &[0.6, 1.0, 0.8, 0.0]);
        assert_eq!(head.map(f32::to_bits), [0.6, 0.0, 0.8, 1.0_f32].map(f32::to_bits));
    }

    #[test]
    fn ties_go_to_the_lowest_id_and_not_a_number_never_wins() {
        let mut values = vec![0.0; 50];
        values[17] = 3.0;
        values[3] = 3.0;
        assert_eq!(argmax(&values), 3);
        values[49] = 4.0;
        assert_eq!(argmax(&values), 49);
        values[0] = f32::NAN;
        assert_eq!(argmax(&values), 49);
        assert_eq!(argmax(&[f32::NAN, f32::NEG_INFINITY]), 1);
    }

    #[test]
    fn exponentials_are_relative_to_the_highest_and_summed_up() {
        for set in InstructionSet::available() {
            for count in [1_u16, 15, 16, 1024, 2500] {
                let values: Vec<f32> = (0..count).map(|i| f32::from(i % 97) / 7.0).collect();
                let (highest, mut output) = (values[argmax(&values) as usize], vec![0.0; values.len()]);
                let total = exponentials(set, &values, highest, &mut output);
                let expected: f64 = values.iter().map(|value| f64::from(value - highest).exp()).sum();
                assert!((total - expected).abs() < 1e-5 * expected, "{set}: {total} instead of {expected}");
                assert_eq!(output[argmax(&values) as usize].to_bits(), 1.0_f32.to_bits());
            }
        }
    }
}
