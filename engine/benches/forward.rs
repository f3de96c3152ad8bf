//! Prints what a forward of n tokens costs relative to one token, for a random model of about four million f32 parameters.
//!
//! `cargo bench -p cllm-engine`. Nothing is asserted: figures depend on the machine and on what else runs on it.
#![expect(clippy::print_stdout, reason = "printing is the purpose of a benchmark")]

use std::error::Error;

use cllm_engine::checkpoint::{EosTokenIds, Family};
use cllm_engine::random::random_checkpoint;
use cllm_engine::{Checkpoint, ComputeOptions, Model, ModelConfig, forward_cost};

const ROWS: [usize; 8] = [1, 2, 3, 4, 6, 8, 16, 32];
const REPETITIONS: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    random_checkpoint(folder.path(), &config(), 1)?;
    let checkpoint = Checkpoint::open(folder.path())?;
    println!("{} parameters", checkpoint.parameters());
    for threads in [1, 2] {
        let model = Model::load(&checkpoint, ComputeOptions { threads, ..ComputeOptions::default() })?;
        println!("{:?}", model.hardware());
        let costs = forward_cost(&model, &ROWS, REPETITIONS);
        let one = costs.first().map_or(f64::NAN, |cost| cost.1);
        for (rows, seconds) in costs {
            println!("t({rows:2}) = {:7.3} ms = {:5.2} t(1)", seconds * 1e3, seconds / one);
        }
    }
    Ok(())
}

fn config() -> ModelConfig {
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
