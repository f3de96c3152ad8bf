//! `config.json` of the Llama family: Hugging Face field names in, a checked [`ModelConfig`] out.
//!
//! What the engine cannot compute exactly is refused here, with a sentence, never ignored.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// The shape of a Llama model. Serializes to a `config.json` that transformers reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig")]
pub struct ModelConfig {
    /// `["LlamaForCausalLM"]`.
    pub architectures: Vec<String>,
    /// `llama`.
    pub model_type: String,
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
    /// `silu`.
    pub hidden_act: String,
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
    #[error("it is not a valid model configuration: {0}. Expected the fields of a Hugging Face Llama config.json")]
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

/// `config.json` as written by others: defaults not filled in, unknown fields ignored, refusable ones kept.
#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_context")]
    max_position_embeddings: usize,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    sliding_window: Option<usize>,
    quantization_config: Option<Value>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<EosTokenIds>,
    pad_token_id: Option<u32>,
}

fn default_context() -> usize {
    2048
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_activation() -> String {
    "silu".to_owned()
}

const DEFAULT_ROPE_THETA: f64 = 10_000.0;

impl ModelConfig {
    /// Widest head that the attention kernel holds on its stack.
    pub const MAXIMUM_HEAD_DIM: usize = 256;

    /// Reads and checks the text of a `config.json`.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::try_from(serde_json::from_str::<RawConfig>(text)?)
    }

    /// Checks sizes against each other. Whoever builds a configuration by hand should call it; loading does.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require("model_type", self.model_type.as_str(), self.model_type == "llama", "\"llama\"")?;
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
        self.validate_special_tokens()
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
            for (name, shape) in [
                ("input_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![queries, hidden]),
                ("self_attn.k_proj", vec![keys, hidden]),
                ("self_attn.v_proj", vec![keys, hidden]),
                ("self_attn.o_proj", vec![hidden, queries]),
                ("post_attention_layernorm", vec![hidden]),
                ("mlp.gate_proj", vec![inner, hidden]),
                ("mlp.up_proj", vec![inner, hidden]),
                ("mlp.down_proj", vec![hidden, inner]),
            ] {
                shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        shapes
    }

    /// Radians per position of each pair of a head: `head_dim / 2` values.
    pub fn rope_frequencies(&self) -> Vec<f32> {
        let head_dim = self.head_dim as f64;
        (0..self.head_dim / 2).map(|i| self.rope_theta.powf(-((2 * i) as f64) / head_dim) as f32).collect()
    }
}

impl TryFrom<RawConfig> for ModelConfig {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        refuse_unsupported(&raw)?;
        let rope_theta = rope_theta(&raw)?;
        let head_dim = match raw.head_dim {
            Some(head_dim) => head_dim,
            None => default_head_dim(&raw)?,
        };
        let config = Self {
            architectures: vec!["LlamaForCausalLM".to_owned()],
            model_type: raw.model_type,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim,
            max_position_embeddings: raw.max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta,
            hidden_act: raw.hidden_act,
            tie_word_embeddings: raw.tie_word_embeddings,
            bos_token_id: raw.bos_token_id,
            eos_token_id: raw.eos_token_id,
            pad_token_id: raw.pad_token_id,
        };
        config.validate()?;
        Ok(config)
    }
}

fn refuse_unsupported(raw: &RawConfig) -> Result<(), ConfigError> {
    let json = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
    require("model_type", raw.model_type.as_str(), raw.model_type == "llama", "\"llama\"")?;
    require("attention_bias", raw.attention_bias, !raw.attention_bias, "false")?;
    require("mlp_bias", raw.mlp_bias, !raw.mlp_bias, "false")?;
    require("rope_scaling", json(&raw.rope_scaling), is_plain_rope(raw.rope_scaling.as_ref()), "null (no scaling)")?;
    require("rope_parameters", json(&raw.rope_parameters), is_plain_rope(raw.rope_parameters.as_ref()), PLAIN_ROPE)?;
    require("sliding_window", raw.sliding_window, raw.sliding_window.is_none(), "null")?;
    require("quantization_config", json(&raw.quantization_config), raw.quantization_config.is_none(), "null")
}

const PLAIN_ROPE: &str = "null, or a `rope_type` of \"default\" with a `rope_theta`";

fn is_plain_rope(rope: Option<&Value>) -> bool {
    let Some(rope) = rope.filter(|rope| !rope.is_null()) else { return true };
    let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str);
    kind == Some("default") && rope.get("factor").is_none()
}

/// transformers 5 writes the base into `rope_parameters`, older versions beside the other fields.
fn rope_theta(raw: &RawConfig) -> Result<f64, ConfigError> {
    let nested = raw.rope_parameters.as_ref().and_then(|rope| rope.get("rope_theta"));
    match (nested, raw.rope_theta) {
        (None, theta) => Ok(theta.unwrap_or(DEFAULT_ROPE_THETA)),
        (Some(theta), _) => theta.as_f64().ok_or_else(|| ConfigError::Unsupported {
            field: "rope_parameters.rope_theta",
            found: theta.to_string(),
            supported: "a positive number",
        }),
    }
}

fn default_head_dim(raw: &RawConfig) -> Result<usize, ConfigError> {
    let heads = raw.num_attention_heads;
    let divides = heads > 0 && raw.hidden_size.is_multiple_of(heads);
    size("hidden_size", raw.hidden_size, divides, || {
        format!("a multiple of `num_attention_heads`, which is {heads}, where no `head_dim` is given")
    })?;
    Ok(raw.hidden_size / heads)
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
