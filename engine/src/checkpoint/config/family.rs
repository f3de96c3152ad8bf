//! The model families, and the one plain description of a layer that both forwards follow, whatever the family.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::ModelConfig;

/// A family of models: what `model_type` in `config.json` names. Serializes to `architectures` and `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama 2 and 3, `SmolLM2`, DeepSeek-Coder and everybody who trains that architecture.
    Llama,
    /// Llama whose layers may all attend through a sliding window.
    Mistral,
    /// Llama with biases on queries, keys and values (Qwen2.5 too); some layers may have a sliding window.
    Qwen2,
    /// Llama with a norm on each head of queries and keys; some layers may have a sliding window.
    Qwen3,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The `model_type` of its `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class of transformers that runs it.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// Whether `attention_bias` says if it has biases; for the other families they are given.
    pub(super) fn has_bias_switch(self) -> bool {
        matches!(self, Self::Llama | Self::Qwen3)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.model_type())
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(Some(2))?;
        fields.serialize_entry("architectures", &[self.architecture()])?;
        fields.serialize_entry("model_type", self.model_type())?;
        fields.end()
    }
}

/// How far a layer looks back, as `layer_types` in `config.json` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// To the beginning of the text.
    FullAttention,
    /// Through the sliding window.
    SlidingAttention,
}

/// A limit on how far layers look back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Positions that a row sees, its own included.
    pub positions: usize,
    /// One entry a layer. Mistral: all of them slide.
    pub layer_types: Vec<LayerType>,
}

/// The fields by which Mistral and Qwen say it. Written even where there is no window: what is absent means 4096 to Mistral.
#[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
pub(super) fn serialize_window<S: Serializer>(
    window: &Option<SlidingWindow>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    fields.serialize_entry("sliding_window", &window.as_ref().map(|window| window.positions))?;
    if let Some(SlidingWindow { layer_types, .. }) = window {
        fields.serialize_entry("use_sliding_window", &true)?;
        if layer_types.contains(&LayerType::FullAttention) {
            fields.serialize_entry("layer_types", layer_types)?;
        } else {
            // all layers: transformers warns of `layer_types` in a Mistral
            fields.serialize_entry("max_window_layers", &0)?;
        }
    }
    fields.end()
}

/// What a layer computes beyond norm, projections, rotary attention and gated feed-forward, which all families share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerDescription {
    /// Biases on queries, keys and values: `q_proj.bias`, `k_proj.bias`, `v_proj.bias`.
    pub qkv_bias: bool,
    /// A bias on what attention adds to the residual stream: `o_proj.bias`.
    pub output_bias: bool,
    /// `RMSNorm` of each head of queries and keys before they are rotated: `q_norm.weight` and `k_norm.weight`, `[head_dim]`.
    pub head_norms: bool,
    /// Positions that a row sees, its own included; none for all before it.
    pub window: Option<usize>,
}

impl ModelConfig {
    /// Description of the layer `index`.
    pub fn layer(&self, index: usize) -> LayerDescription {
        let window = self.sliding_window.as_ref();
        let window = window.filter(|window| window.layer_types.get(index) == Some(&LayerType::SlidingAttention));
        LayerDescription {
            qkv_bias: self.attention_bias || self.family == Family::Qwen2,
            output_bias: self.attention_bias,
            head_norms: self.family == Family::Qwen3,
            window: window.map(|window| window.positions),
        }
    }
}
