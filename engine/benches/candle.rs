//! What a forward of n tokens costs in candle: its matrix products on the shapes of SmolLM2-135M, without attention and norms, which is in
//! its favour. A JSON line for each storage and number of rows: `{"storage", "rows", "seconds"}`.
//!
//! `RAYON_NUM_THREADS=2 cargo bench -p cllm-engine --bench candle`; `make bench-peers` plots it beside ours and llama.cpp's.
#![expect(clippy::print_stdout, reason = "printing is the purpose of a benchmark")]

use std::error::Error;
use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

const ROWS: [usize; 5] = [1, 2, 4, 8, 16];
const REPETITIONS: usize = 15;
const LAYERS: usize = 30;
/// Outputs and inputs: queries, keys, values, output, gate, up, down.
const LAYER: [(usize, usize); 7] =
    [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)];
const HEAD: (usize, usize) = (49_152, 576);

fn main() -> Result<(), Box<dyn Error>> {
    for (storage, dtype) in [("f32", GgmlDType::F32), ("q8_0", GgmlDType::Q8_0), ("q4_1", GgmlDType::Q4_1)] {
        let matrices = matrices(dtype)?;
        for rows in ROWS {
            let mut seconds =
                (0..=REPETITIONS).map(|_| forward_seconds(&matrices, rows)).collect::<Result<Vec<_>, _>>()?;
            // the first one pays for cold caches
            let median = median(&mut seconds[1..]);
            println!(r#"{{"storage": "{storage}", "rows": {rows}, "seconds": {median}}}"#);
        }
    }
    Ok(())
}

fn matrices(dtype: GgmlDType) -> Result<Vec<(usize, QMatMul)>, candle_core::Error> {
    let shapes = std::iter::repeat_n(LAYER, LAYERS).flatten().chain([HEAD]);
    shapes.map(|(outputs, inputs)| Ok((inputs, matrix(dtype, outputs, inputs)?))).collect()
}

/// In f32 a plain tensor, which is what candle's models use.
fn matrix(dtype: GgmlDType, outputs: usize, inputs: usize) -> Result<QMatMul, candle_core::Error> {
    let weights = Tensor::randn(0_f32, 0.05, (outputs, inputs), &Device::Cpu)?;
    match dtype {
        GgmlDType::F32 => Ok(QMatMul::Tensor(weights)),
        _ => QMatMul::from_qtensor(QTensor::quantize(&weights, dtype)?),
    }
}

fn forward_seconds(matrices: &[(usize, QMatMul)], rows: usize) -> Result<f64, candle_core::Error> {
    let inputs = [576, 1536].map(|width| Tensor::randn(0_f32, 1.0, (rows, width), &Device::Cpu));
    let [narrow, wide] = inputs;
    let (narrow, wide) = (narrow?, wide?);
    let begin = Instant::now();
    for (inputs, matrix) in matrices {
        std::hint::black_box(matrix.forward(if *inputs == 576 { &narrow } else { &wide })?);
    }
    Ok(begin.elapsed().as_secs_f64())
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
