//! Linear layers in every storage against the sum that they stand for.

use std::borrow::Cow;

use super::{Activations, Compute, InstructionSet, PackedLinear, Storage, ThreadPool};

/// Numbers that look random, between -1 and 1.
fn noise(seed: usize) -> impl FnMut() -> f32 {
    let mut state = seed as u64 * 2 + 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / f32::from(1_u16 << 15).powi(2) * 128.0 - 1.0
    }
}

fn matrix(outputs: usize, inputs: usize, seed: usize) -> Vec<f32> {
    let mut noise = noise(seed);
    (0..outputs * inputs).map(|i| noise() * (1.0 + (i % 5) as f32)).collect()
}

/// Integers of which each block has a largest of 127, so that quantising them changes nothing.
fn exact_rows(rows: usize, inputs: usize, seed: usize) -> Vec<f32> {
    let mut noise = noise(seed);
    (0..rows * inputs).map(|i| if i % 32 == 7 { 127.0 } else { (noise() * 126.0).round() }).collect()
}

fn encoded(matrix: &[f32], inputs: usize, storage: Storage) -> impl Iterator<Item = Cow<'_, [u8]>> {
    matrix.chunks(inputs).map(move |row| Cow::Owned(storage.encode(row)))
}

fn set(layer: &PackedLinear, set: InstructionSet, threads: usize, input: &[f32], rows: usize) -> Vec<f32> {
    let pool = ThreadPool::new(threads).unwrap();
    let mut output = vec![0.0; rows * layer.outputs()];
    layer.set(Compute { pool: &pool, set, activations: &mut Activations::default() }, input, &mut output);
    output
}

/// Largest error of a weight, relative to the largest weight of its block.
fn precision(storage: Storage) -> f32 {
    match storage {
        Storage::F32 => 0.0,
        Storage::Bf16 => 1.0 / 256.0,
        Storage::Q8_0 => 0.57 / 127.0,
        Storage::Q4_0 => 1.01 / 8.0,
        Storage::Q4_1 => 1.01 / 15.0,
    }
}

#[test]
fn stored_weights_are_close_to_the_given_ones() {
    let (outputs, inputs) = (37, 96);
    let matrix = matrix(outputs, inputs, 1);
    for storage in Storage::ALL {
        let layer = PackedLinear::stacked(storage, inputs, outputs, encoded(&matrix, inputs, storage));
        let mut weights = vec![0.0; inputs];
        for (output, row) in matrix.chunks(inputs).enumerate() {
            layer.copy_weights(output, &mut weights);
            for (found, given) in weights.chunks(32).zip(row.chunks(32)) {
                let largest = given.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
                for (found, given) in found.iter().zip(given) {
                    assert!((found - given).abs() <= precision(storage) * largest, "{storage}: {given} became {found}");
                }
            }
        }
    }
}

#[test]
fn products_are_the_sums_of_stored_weights_times_inputs() {
    for (outputs, inputs, rows) in [(1, 32, 1), (37, 96, 9), (64, 64, 8), (100, 128, 3), (33, 32, 17), (35, 45, 5)] {
        let (matrix, input) = (matrix(outputs, inputs, rows), exact_rows(rows, inputs, outputs));
        for storage in Storage::ALL.into_iter().filter(|storage| inputs.is_multiple_of(storage.block_len())) {
            let layer = PackedLinear::stacked(storage, inputs, outputs, encoded(&matrix, inputs, storage));
            let mut weights = vec![0.0; inputs];
            for set_ in InstructionSet::available() {
                let found = set(&layer, set_, 1, &input, rows);
                for output in 0..outputs {
                    layer.copy_weights(output, &mut weights);
                    for (row, input) in input.chunks(inputs).enumerate() {
                        let products = weights.iter().zip(input).map(|(&w, &x)| f64::from(w) * f64::from(x));
                        let (sum, size) = products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                        let found = f64::from(found[row * outputs + output]);
                        assert!((found - sum).abs() <= 1e-6 * size, "{storage}, {set_}: {found} instead of {sum}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_company_in_any_storage() {
    let (outputs, inputs, rows) = (1000, 160, 21);
    let matrix = matrix(outputs, inputs, 5);
    let input: Vec<f32> = {
        let mut noise = noise(6);
        (0..rows * inputs).map(|_| noise()).collect()
    };
    for storage in Storage::ALL {
        let layer = PackedLinear::stacked(storage, inputs, outputs, encoded(&matrix, inputs, storage));
        for set_ in InstructionSet::available() {
            let alone: Vec<u32> =
                input.chunks(inputs).flat_map(|row| set(&layer, set_, 1, row, 1)).map(f32::to_bits).collect();
            for threads in [1, 3] {
                let together = set(&layer, set_, threads, &input, rows);
                assert!(
                    alone.iter().eq(together.iter().map(|x| x.to_bits()).collect::<Vec<_>>().iter()),
                    "{storage}, {set_}"
                );
            }
        }
    }
}

#[test]
fn gate_and_up_may_have_any_number_of_outputs() {
    let (inputs, rows) = (64, 2);
    for outputs in [1, 15, 16, 17, 40] {
        let (gate, up) = (matrix(outputs, inputs, 7), matrix(outputs, inputs, 8));
        let input: Vec<f32> = exact_rows(rows, inputs, 9).iter().map(|x| x / 512.0).collect();
        for storage in Storage::ALL {
            let [gate, up] = [&gate, &up].map(|matrix| encoded(matrix, inputs, storage).collect::<Vec<_>>());
            let stacked = PackedLinear::stacked(storage, inputs, 2 * outputs, gate.iter().chain(&up).cloned());
            let gated = PackedLinear::gated(storage, inputs, outputs, gate.into_iter(), up.into_iter());
            for set_ in InstructionSet::available() {
                let separate = set(&stacked, set_, 1, &input, rows);
                let pool = ThreadPool::new(1).unwrap();
                let mut found = vec![0.0; rows * outputs];
                gated.gate(
                    Compute { pool: &pool, set: set_, activations: &mut Activations::default() },
                    &input,
                    &mut found,
                );
                for (row, separate) in separate.chunks(2 * outputs).enumerate() {
                    for output in 0..outputs {
                        let (gate, up) = (separate[output], separate[outputs + output]);
                        let (expected, found) = (gate / (1.0 + (-gate).exp()) * up, found[row * outputs + output]);
                        let close = (found - expected).abs() <= 1e-5 * (1.0 + expected.abs());
                        assert!(close, "{storage}, {set_}: {found} instead of {expected}");
                    }
                }
            }
        }
    }
}
