//! Small random models for tests.

use cllm_engine::checkpoint::{EosTokenIds, Family};
use cllm_engine::random::random_checkpoint;
use cllm_engine::{Checkpoint, ComputeOptions, InstructionSet, Model, ModelConfig};
use tempfile::TempDir;

/// A configuration with everything small and uneven, so that no size is a multiple of a vector by accident.
pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 270,
        hidden_size: 20,
        intermediate_size: 44,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        max_position_embeddings: 96,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        hidden_act: "silu".to_owned(),
        attention_bias: false,
        sliding_window: None,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_id: Some(EosTokenIds::One(0)),
        pad_token_id: None,
    }
}

/// A folder with a random checkpoint.
pub(crate) fn folder(config: &ModelConfig, seed: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(folder.path(), config, seed).unwrap();
    folder
}

/// A random model.
pub(crate) fn model(config: &ModelConfig, seed: u64, threads: usize, instruction_set: InstructionSet) -> Model {
    let checkpoint = Checkpoint::open(folder(config, seed).path()).unwrap();
    Model::load(&checkpoint, ComputeOptions { threads, instruction_set: Some(instruction_set) }).unwrap()
}

/// The instruction sets that this machine can test.
pub(crate) fn instruction_sets() -> Vec<InstructionSet> {
    InstructionSet::available().collect()
}
