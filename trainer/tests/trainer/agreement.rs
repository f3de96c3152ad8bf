//! The differentiable forward is the oracle of the engine's CPU inference.

use std::sync::Arc;

use cllm_engine::checkpoint::ModelConfig;
use cllm_engine::differentiable::{ForwardInput, RowLayout};
use cllm_engine::{Checkpoint, ComputeOptions, Device, KvCache, Model, Workspace};
use cllm_trainer::model_folder::differentiable;

#[test]
fn both_forwards_give_the_same_logits() {
    for (heads, kv_heads, head_dim, tied) in [(4, 2, 8, false), (3, 1, 16, true), (2, 2, 6, false)] {
        let config = format!(
            r#"{{"model_type": "llama", "vocab_size": 270, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
            "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads}, "head_dim": {head_dim},
            "tie_word_embeddings": {tied}, "eos_token_id": 0, "rms_norm_eps": 1e-5, "rope_theta": 5000.0}}"#
        );
        let config = ModelConfig::from_json(&config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        cllm_engine::random::random_checkpoint(folder.path(), &config, heads as u64).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let tokens: Vec<u32> = (0..40).map(|i| i * 31 % 270).collect();
        let found = by_engine(&checkpoint, &tokens);
        let expected = by_differentiable(&checkpoint, &tokens);
        let scale = expected.iter().flatten().fold(0.0_f32, |a, b| a.max(b.abs()));
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (token, (found, expected)) in found.iter().zip(expected).enumerate() {
                let error = (found - expected).abs() / scale;
                assert!(error < 1e-4, "row {row}, token {token}: {found} against {expected}");
            }
        }
    }
}

fn by_engine(checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<Vec<f32>> {
    let model = Model::load(checkpoint, ComputeOptions { threads: 1, ..ComputeOptions::default() }).unwrap();
    let (mut workspace, mut cache) = (Workspace::new(&model), KvCache::new(&model, tokens.len()));
    let logits = model.forward(&mut workspace, &mut cache, tokens).unwrap();
    (0..tokens.len()).map(|row| logits.row(row).to_vec()).collect()
}

fn by_differentiable(checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut rows = RowLayout::new();
    rows.push_sequence(tokens.len());
    let all: Vec<u32> = (0..tokens.len() as u32).collect();
    let input = ForwardInput { tokens, rows: &Arc::new(rows), selected: &all };
    differentiable(checkpoint, Device::Cpu).unwrap().logits(input).unwrap().to_vec2().unwrap()
}
