//! Prints what a forward of n tokens costs relative to one token, for random models: a small one whose weights stay in the cache, and one
//! of the shape of SmolLM2-135M in every storage.
//!
//! `cargo bench -p cllm-engine`, all of it; `… -- q8_0 avx512 "1 threads"`: only lines with all of these. Nothing is asserted: figures depend on the machine and on what else runs on it.
#![expect(clippy::print_stdout, reason = "printing is the purpose of a benchmark")]

use std::error::Error;

use cllm_engine::checkpoint::{EosTokenIds, Family};
use cllm_engine::random::random_checkpoint;
use cllm_engine::{Checkpoint, ComputeOptions, InstructionSet, Model, ModelConfig, Storage, forward_cost};

const ROWS: [usize; 8] = [1, 2, 3, 4, 6, 8, 16, 32];

fn main() -> Result<(), Box<dyn Error>> {
    measure("a small model", &small(), &Storage::ALL, 400)?;
    measure("the shape of SmolLM2-135M", &smollm2(), &Storage::ALL, 45)
}

fn measure(what: &str, config: &ModelConfig, storages: &[Storage], repetitions: usize) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    random_checkpoint(folder.path(), config, 1)?;
    let checkpoint = Checkpoint::open(folder.path())?;
    println!("{what}: {} parameters", checkpoint.parameters());
    for &storage in storages {
        for set in InstructionSet::available().filter(|set| *set != InstructionSet::Portable) {
            for threads in [1, 2] {
                let line = format!("{storage:5} {set:12} {threads} threads");
                if !std::env::args().skip(1).all(|word| word == "--bench" || line.contains(&word)) {
                    continue;
                }
                let options = ComputeOptions {
                    threads,
                    storage: Some(storage),
                    instruction_set: Some(set),
                    ..ComputeOptions::default()
                };
                let model = Model::load(&checkpoint, options)?;
                let costs = forward_cost(&model, &ROWS, repetitions);
                let one = costs.first().map_or(f64::NAN, |cost| cost.1);
                let ratios: Vec<_> =
                    costs.iter().map(|(rows, seconds)| format!("t({rows}) = {:.2}", seconds / one)).collect();
                println!("{line}: t(1) = {:7.3} ms, {}", one * 1e3, ratios[1..].join(", "));
            }
        }
    }
    Ok(())
}

fn small() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 1024,
        hidden_size: 256,
        intermediate_size: 768,
        num_hidden_layers: 4,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 32,
        max_position_embeddings: 512,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        hidden_act: "silu".to_owned(),
        attention_bias: false,
        sliding_window: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: Some(EosTokenIds::One(0)),
        pad_token_id: None,
    }
}

fn smollm2() -> ModelConfig {
    ModelConfig {
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        ..small()
    }
}
