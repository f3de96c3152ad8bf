//! Everything about a model but its weights.

use super::AttentionShape;
use crate::checkpoint::{LayerDescription, ModelConfig};

/// Everything about a model but its weights.
#[derive(Clone, Debug)]
pub struct Dimensions {
    /// Rows of the embedding.
    pub vocabulary_size: usize,
    /// Values of a row between layers.
    pub hidden_size: usize,
    /// Values of a row inside the feed-forward layer.
    pub intermediate_size: usize,
    /// What each layer computes.
    pub layers: Vec<LayerDescription>,
    /// Heads.
    pub attention: AttentionShape,
    /// Epsilon of the norms.
    pub norm_epsilon: f64,
    /// Radians per position of the pairs of a head, scaling included: `head_dim / 2` values.
    pub rope_frequencies: Vec<f32>,
    /// The embedding is the last linear layer too.
    pub tied_embeddings: bool,
}

impl From<&ModelConfig> for Dimensions {
    fn from(config: &ModelConfig) -> Self {
        Self {
            vocabulary_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            layers: (0..config.num_hidden_layers).map(|index| config.layer(index)).collect(),
            attention: AttentionShape {
                heads: config.num_attention_heads,
                kv_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
            },
            norm_epsilon: config.rms_norm_eps,
            rope_frequencies: config.rope_frequencies(),
            tied_embeddings: config.tie_word_embeddings,
        }
    }
}
