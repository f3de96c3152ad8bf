//! From a configuration to the metadata that describe it in a GGUF file.

use super::writer::Written;
use super::{GgufError, rope};
use crate::checkpoint::{Family, LayerType, ModelConfig, RopeScaling, SlidingWindow};

/// What files call the architecture: that of Llama holds Mistral models too.
pub(super) fn architecture(family: Family) -> &'static str {
    match family {
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    }
}

/// Everything about the shape of a model.
pub(super) fn values(config: &ModelConfig) -> Result<Vec<(String, Written)>, GgufError> {
    refuse_variants(config)?;
    let architecture = architecture(config.family);
    let count = |value: usize| Written::Integer(value as u32);
    let general = [
        ("general.architecture", Written::Text(architecture.to_owned())),
        ("general.type", Written::Text("model".to_owned())),
        ("general.quantization_version", Written::Integer(2)),
    ];
    let shape = [
        ("vocab_size", count(config.vocab_size)),
        ("context_length", count(config.max_position_embeddings)),
        ("embedding_length", count(config.hidden_size)),
        ("block_count", count(config.num_hidden_layers)),
        ("feed_forward_length", count(config.intermediate_size)),
        ("attention.head_count", count(config.num_attention_heads)),
        ("attention.head_count_kv", count(config.num_key_value_heads)),
        ("attention.key_length", count(config.head_dim)),
        ("attention.value_length", count(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", Written::Float(config.rms_norm_eps as f32)),
        ("rope.dimension_count", count(config.head_dim)),
        ("rope.freq_base", Written::Float(config.rope_theta as f32)),
    ];
    let shape = shape.into_iter().chain(rope_scaling(config.rope_scaling)).chain(window(config));
    let shape = shape.map(|(name, value)| (format!("{architecture}.{name}"), value));
    Ok(general.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(shape).collect())
}

/// What Llama 3 scaling leads to is a tensor of factors; its original context stands here too, so that it is known again.
fn rope_scaling(scaling: Option<RopeScaling>) -> Vec<(&'static str, Written)> {
    match scaling {
        None => Vec::new(),
        Some(RopeScaling::Linear { factor }) => vec![
            ("rope.scaling.type", Written::Text("linear".to_owned())),
            ("rope.scaling.factor", Written::Float(factor as f32)),
        ],
        Some(RopeScaling::Llama3 { original_max_position_embeddings, .. }) => {
            vec![(rope::ORIGINAL_CONTEXT_KEY, Written::Integer(original_max_position_embeddings as u32))]
        }
    }
}

/// The window, and which layers have it where not all do.
fn window(config: &ModelConfig) -> Vec<(&'static str, Written)> {
    let Some(SlidingWindow { positions, layer_types }) = &config.sliding_window else { return Vec::new() };
    let mut values = vec![("attention.sliding_window", Written::Integer(*positions as u32))];
    if config.family != Family::Mistral {
        let slides = layer_types.iter().map(|layer_type| *layer_type == LayerType::SlidingAttention).collect();
        values.push(("attention.sliding_window_pattern", Written::Bools(slides)));
    }
    values
}

/// What no key or tensor would tell.
fn refuse_variants(config: &ModelConfig) -> Result<(), GgufError> {
    match config.rope_scaling {
        Some(RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. })
            if !rope::are_of_the_releases(low_freq_factor, high_freq_factor) =>
        {
            Err(GgufError::Export(format!(
                "`rope_scaling` has the low_freq_factor {low_freq_factor} and the high_freq_factor {high_freq_factor}; only 1 and 4, \
                 those of all releases of Llama 3, are written"
            )))
        }
        _ => Ok(()),
    }
}
