//! `config.json` of the Llama family: Hugging Face field names in, a checked [`ModelConfig`] out.
//!
//! What the engine cannot compute exactly is refused here, with a sentence, never ignored.

mod family;
mod read;
mod rope;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use family::{Family, LayerDescription, LayerType, SlidingWindow};
pub use rope::RopeScaling;

/// The shape of a model. Serializes to a `config.json` that transformers reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct ModelConfig {
    /// Which architecture it is.
    #[serde(flatten)]
    pub family: Family,
    /// Number of logits of a row. May exceed the number of tokens of the tokenizer.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head: even, at most [`ModelConfig::MAXIMUM_HEAD_DIM`].
    pub head_dim: usize,
    /// Largest number of positions of a sequence: prompt and generated tokens together.
    pub max_position_embeddings: usize,
    /// Added to the mean square in `RMSNorm`.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are changed for a longer context, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// `silu`.
    pub hidden_act: String,
    /// Llama and Qwen3: whether all four attention projections have biases. Qwen2 has them on three, whatever stands here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub attention_bias: bool,
    /// Mistral and Qwen: how far layers look back, if not to the beginning.
    #[serde(flatten, serialize_with = "family::serialize_window")]
    pub sliding_window: Option<SlidingWindow>,
    /// Whether the embedding is used as the output layer too.
    pub tie_word_embeddings: bool,
    /// First token of a text, if the tokenizer uses one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text. `generation_config.json` overrides them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<EosTokenIds>,
    /// Padding token, for other tools; the engine does not pad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_token_id: Option<u32>,
}

/// One token that ends a text, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EosTokenIds {
    /// `"eos_token_id": 2`
    One(u32),
    /// `"eos_token_id": [2, 3]`
    Several(Vec<u32>),
}

impl EosTokenIds {
    /// The tokens, in the order given.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
        }
    }
}

/// Why a `config.json` was refused. Messages are full sentences without the file name, which the caller adds.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not JSON, or a field is missing or of another type.
    #[error("it is not a valid model configuration: {0}. Expected the fields of a Hugging Face config.json")]
    Malformed(#[from] serde_json::Error),
    /// A feature that the engine does not compute.
    #[error("`{field}` is {found}, which is not supported. Supported: {supported}")]
    Unsupported {
        /// Name of the field in `config.json`.
        field: &'static str,
        /// Its value, as JSON.
        found: String,
        /// What may stand there.
        supported: &'static str,
    },
    /// A size that contradicts another one.
    #[error("`{field}` is {found}, but must be {allowed}")]
    Size {
        /// Name of the field in `config.json`.
        field: &'static str,
        /// Its value.
        found: String,
        /// What may stand there.
        allowed: String,
    },
}

impl ModelConfig {
    /// Widest head that the attention kernel holds on its stack.
    pub const MAXIMUM_HEAD_DIM: usize = 256;

    /// Reads and checks the text of a `config.json`.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::try_from(serde_json::from_str::<Value>(text)?)
    }

    /// Checks sizes against each other. Whoever builds a configuration by hand should call it; loading does.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require("hidden_act", self.hidden_act.as_str(), self.hidden_act == "silu", "\"silu\"")?;
        for (field, found, limit) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 22),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 12),
            ("head_dim", self.head_dim, Self::MAXIMUM_HEAD_DIM),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
        ] {
            size(field, found, (1..=limit).contains(&found), || format!("from 1 to {limit}"))?;
        }
        size("head_dim", self.head_dim, self.head_dim.is_multiple_of(2), || "even".to_owned())?;
        let heads = self.num_attention_heads;
        size("num_key_value_heads", self.num_key_value_heads, heads.is_multiple_of(self.num_key_value_heads), || {
            format!("a divisor of `num_attention_heads`, which is {heads}")
        })?;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        size("rope_theta", self.rope_theta, positive(self.rope_theta), || "a positive number".to_owned())?;
        size("rms_norm_eps", self.rms_norm_eps, positive(self.rms_norm_eps), || "a positive number".to_owned())?;
        self.rope_scaling.iter().try_for_each(RopeScaling::validate)?;
        self.validate_attention()?;
        self.validate_special_tokens()
    }

    fn validate_attention(&self) -> Result<(), ConfigError> {
        let family = self.family;
        size("attention_bias", self.attention_bias, !self.attention_bias || family.has_bias_switch(), || {
            format!("false where `model_type` is {family}")
        })?;
        let Some(SlidingWindow { positions, layer_types }) = &self.sliding_window else { return Ok(()) };
        let layers = self.num_hidden_layers;
        size("sliding_window", positions, family != Family::Llama, || format!("null where `model_type` is {family}"))?;
        size("sliding_window", positions, *positions > 0, || "at least 1".to_owned())?;
        let all_slide = layer_types.iter().all(|layer_type| *layer_type == LayerType::SlidingAttention);
        let fits = layer_types.len() == layers && (all_slide || family != Family::Mistral);
        size("layer_types", format!("{layer_types:?}"), fits, || {
            format!("one for each of {layers} layers, all of them `sliding_attention` where `model_type` is mistral")
        })
    }

    fn validate_special_tokens(&self) -> Result<(), ConfigError> {
        let limit = self.vocab_size;
        let eos = self.eos_token_id.as_ref().map_or(&[][..], EosTokenIds::as_slice);
        let bos = self.bos_token_id.as_slice();
        for (field, ids) in [("bos_token_id", bos), ("eos_token_id", eos)] {
            for &id in ids {
                size(field, id, (id as usize) < limit, || format!("less than `vocab_size`, which is {limit}"))?;
            }
        }
        Ok(())
    }

    /// Name and shape of every weight that a checkpoint of this configuration consists of.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;
        let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let LayerDescription { qkv_bias, output_bias, head_norms, window: _ } = self.layer(layer);
            for (name, shape, present) in [
                ("input_layernorm.weight", vec![hidden], true),
                ("self_attn.q_proj.weight", vec![queries, hidden], true),
                ("self_attn.q_proj.bias", vec![queries], qkv_bias),
                ("self_attn.q_norm.weight", vec![self.head_dim], head_norms),
                ("self_attn.k_proj.weight", vec![keys, hidden], true),
                ("self_attn.k_proj.bias", vec![keys], qkv_bias),
                ("self_attn.k_norm.weight", vec![self.head_dim], head_norms),
                ("self_attn.v_proj.weight", vec![keys, hidden], true),
                ("self_attn.v_proj.bias", vec![keys], qkv_bias),
                ("self_attn.o_proj.weight", vec![hidden, queries], true),
                ("self_attn.o_proj.bias", vec![hidden], output_bias),
                ("post_attention_layernorm.weight", vec![hidden], true),
                ("mlp.gate_proj.weight", vec![inner, hidden], true),
                ("mlp.up_proj.weight", vec![inner, hidden], true),
                ("mlp.down_proj.weight", vec![hidden, inner], true),
            ] {
                if present {
                    shapes.push((format!("model.layers.{layer}.{name}"), shape));
                }
            }
        }
        shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        shapes
    }

    /// Radians per position of each pair of a head, scaling included: `head_dim / 2` values.
    pub fn rope_frequencies(&self) -> Vec<f32> {
        rope::frequencies(self.rope_theta, self.head_dim, self.rope_scaling)
    }
}

/// `found` is shown as JSON.
fn require(field: &'static str, found: impl Into<Value>, ok: bool, supported: &'static str) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::Unsupported { field, found: found.into().to_string(), supported }) }
}

fn size(
    field: &'static str,
    found: impl std::fmt::Display,
    ok: bool,
    allowed: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::Size { field, found: found.to_string(), allowed: allowed() }) }
}
