//! Small random models for tests.

use cllm_engine::checkpoint::{EosTokenIds, Family, LayerType, RopeScaling, SlidingWindow};
use cllm_engine::random::random_checkpoint;
use cllm_engine::{Checkpoint, ComputeOptions, Device, InstructionSet, Model, ModelConfig, TensorDtype, TensorOptions};
use proptest::prelude::ProptestConfig;
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

/// [`config`] as each family varies it. Windows are much shorter than the context.
pub(crate) fn families() -> Vec<ModelConfig> {
    use LayerType::{FullAttention, SlidingAttention};
    let window =
        |positions, layer_types: [LayerType; 2]| Some(SlidingWindow { positions, layer_types: layer_types.to_vec() });
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 32,
    };
    vec![
        ModelConfig { rope_scaling: Some(llama3), tie_word_embeddings: true, ..config() },
        ModelConfig { rope_scaling: Some(RopeScaling::Linear { factor: 4.0 }), attention_bias: true, ..config() },
        ModelConfig {
            family: Family::Mistral,
            sliding_window: window(7, [SlidingAttention, SlidingAttention]),
            ..config()
        },
        ModelConfig { family: Family::Qwen2, tie_word_embeddings: true, ..config() },
        ModelConfig {
            family: Family::Qwen2,
            sliding_window: window(65, [FullAttention, SlidingAttention]),
            ..config()
        },
        ModelConfig { family: Family::Qwen3, head_dim: 10, ..config() },
        ModelConfig {
            family: Family::Qwen3,
            attention_bias: true,
            sliding_window: window(1, [SlidingAttention, FullAttention]),
            ..config()
        },
    ]
}

/// So many cases of a property, or `CLLM_CASES` times as many (`make exactness`). Failures are not kept in files.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    let factor = std::env::var("CLLM_CASES").map_or(1, |factor| factor.parse().unwrap());
    ProptestConfig { cases: cases * factor, failure_persistence: None, ..ProptestConfig::default() }
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
    Model::load(
        &checkpoint,
        ComputeOptions { threads, instruction_set: Some(instruction_set), ..ComputeOptions::default() },
    )
    .unwrap()
}

/// To compute in candle tensors: on the processor, where only the device differs from a GPU, or on the one that `CLLM_TEST_DEVICE` names.
pub(crate) fn tensors(dtype: TensorDtype) -> ComputeOptions {
    let device = std::env::var("CLLM_TEST_DEVICE").map_or(Device::Cpu, |name| name.parse().unwrap());
    ComputeOptions { tensors: Some(TensorOptions { device, dtype: Some(dtype) }), ..ComputeOptions::default() }
}

/// The instruction sets that this machine can test.
pub(crate) fn instruction_sets() -> Vec<InstructionSet> {
    InstructionSet::available().collect()
}
