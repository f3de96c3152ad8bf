//! The CPU forward against the differentiable candle forward, which shares no arithmetic with it.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use cllm_engine::differentiable::{DifferentiableModel, ForwardInput, RowLayout};
use cllm_engine::{Checkpoint, ComputeOptions, KvCache, Model, ModelConfig, Workspace};

use crate::support::{config, families, folder, instruction_sets};

fn oracle(checkpoint: &Checkpoint) -> DifferentiableModel {
    // In f64, so that differences are those of the forward under test.
    DifferentiableModel::new(checkpoint.config().into(), DType::F64, |name| {
        let tensor = checkpoint.tensors().get(name).unwrap();
        Tensor::from_vec(tensor.to_f32(), tensor.shape, &Device::Cpu)
    })
    .unwrap()
}

#[test]
fn both_forwards_give_the_same_logits() {
    let plain = [
        config(),
        ModelConfig { tie_word_embeddings: true, num_key_value_heads: 1, ..config() },
        ModelConfig { hidden_size: 64, head_dim: 16, num_key_value_heads: 4, rope_theta: 500.0, ..config() },
    ];
    let tokens: Vec<u32> = (0..90).map(|i| i * i % 270).collect();
    for (seed, config) in plain.into_iter().chain(families()).enumerate() {
        let folder = folder(&config, seed as u64);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let mut rows = RowLayout::new();
        rows.push_sequence(tokens.len());
        let selected: Vec<u32> = (0..tokens.len() as u32).collect();
        let input = ForwardInput { tokens: &tokens, rows: &Arc::new(rows), selected: &selected };
        let expected = oracle(&checkpoint).logits(input).unwrap();
        let expected: Vec<Vec<f64>> = expected.to_dtype(DType::F64).unwrap().to_vec2().unwrap();
        for instruction_set in instruction_sets() {
            let options =
                ComputeOptions { threads: 1, instruction_set: Some(instruction_set), ..ComputeOptions::default() };
            let model = Model::load(&checkpoint, options).unwrap();
            let (mut workspace, mut cache) = (Workspace::new(&model), KvCache::new(&model, tokens.len()));
            let logits = model.forward(&mut workspace, &mut cache, &tokens).unwrap();
            for (row, expected) in expected.iter().enumerate() {
                for (found, expected) in logits.row(row).iter().zip(expected) {
                    let difference = (f64::from(*found) - expected).abs();
                    assert!(difference < 2e-4, "{instruction_set}, row {row}: {found} instead of {expected}");
                }
            }
        }
    }
}
