//! From the fields that others write to a checked configuration. What transformers assumes for a missing field depends on the
//! family; what the engine does not compute is refused by name.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::family::{Family, LayerType, SlidingWindow};
use super::rope::{RawRope, Rope};
use super::{ConfigError, EosTokenIds, ModelConfig, require, size};

/// `config.json` as written by others, with defaults for absent fields. Unknown fields are ignored, refusable ones kept.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are those of config.json")]
struct RawConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: f64,
    hidden_act: String,
    tie_word_embeddings: bool,
    attention_bias: bool,
    mlp_bias: bool,
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<Value>>,
    quantization_config: Option<Value>,
    auto_map: Option<Value>,
    use_mrope: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<EosTokenIds>,
    /// −1 in some, for none.
    pad_token_id: Option<i64>,
    #[serde(flatten)]
    rope: RawRope,
}

/// What absent fields mean to transformers. A field that is null stays so.
fn defaults(family: Family) -> Value {
    let mut fields = json!({
        "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
        "use_sliding_window": false,
    });
    let own = match family {
        Family::Llama => json!({ "max_position_embeddings": 2048 }),
        Family::Mistral => {
            json!({ "max_position_embeddings": 131_072, "num_key_value_heads": 8, "sliding_window": 4096 })
        }
        Family::Qwen2 => {
            json!({ "max_position_embeddings": 32_768, "num_key_value_heads": 32, "sliding_window": 4096,
                    "max_window_layers": 28 })
        }
        Family::Qwen3 => {
            json!({ "max_position_embeddings": 32_768, "num_key_value_heads": 32, "sliding_window": 4096,
                    "max_window_layers": 28, "head_dim": 128 })
        }
    };
    if let (Value::Object(fields), Value::Object(own)) = (&mut fields, own) {
        fields.extend(own);
    }
    fields
}

impl TryFrom<Value> for ModelConfig {
    type Error = ConfigError;

    fn try_from(given: Value) -> Result<Self, ConfigError> {
        let given: Map<String, Value> = serde_json::from_value(given)?;
        let family = family(given.get("model_type"))?;
        let mut fields = defaults(family);
        if let Value::Object(fields) = &mut fields {
            fields.extend(given);
        }
        let raw: RawConfig = serde_json::from_value(fields)?;
        refuse_unsupported(family, &raw)?;
        let config = from_raw(family, raw)?;
        config.validate()?;
        Ok(config)
    }
}

fn family(model_type: Option<&Value>) -> Result<Family, ConfigError> {
    let found = model_type.cloned().unwrap_or(Value::Null);
    Family::ALL.into_iter().find(|family| found == family.model_type()).ok_or_else(|| ConfigError::Unsupported {
        field: "model_type",
        found: found.to_string(),
        supported: "\"llama\", \"mistral\", \"qwen2\" and \"qwen3\"",
    })
}

fn refuse_unsupported(family: Family, raw: &RawConfig) -> Result<(), ConfigError> {
    let json = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
    require("mlp_bias", raw.mlp_bias, !raw.mlp_bias, "false")?;
    require("quantization_config", json(&raw.quantization_config), raw.quantization_config.is_none(), "null")?;
    let no_code = "null: code in a checkpoint is never run";
    require("auto_map", json(&raw.auto_map), raw.auto_map.is_none(), no_code)?;
    require("use_mrope", raw.use_mrope, raw.use_mrope != Some(true), "false")?;
    let bias = !raw.attention_bias || family != Family::Mistral;
    require("attention_bias", raw.attention_bias, bias, "false for this model_type")?;
    let window = raw.sliding_window.is_none() || family != Family::Llama;
    require("sliding_window", raw.sliding_window, window, "null for this model_type")
}

fn from_raw(family: Family, raw: RawConfig) -> Result<ModelConfig, ConfigError> {
    let sliding_window = sliding_window(family, &raw)?;
    let head_dim = match raw.head_dim {
        Some(head_dim) => head_dim,
        None => default_head_dim(&raw)?,
    };
    let max_position_embeddings = raw.rope.max_position_embeddings();
    let rope = Rope::try_from(raw.rope)?;
    Ok(ModelConfig {
        family,
        vocab_size: raw.vocab_size,
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        num_hidden_layers: raw.num_hidden_layers,
        num_attention_heads: raw.num_attention_heads,
        num_key_value_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
        head_dim,
        max_position_embeddings,
        rms_norm_eps: raw.rms_norm_eps,
        rope_theta: rope.theta,
        rope_scaling: rope.scaling,
        hidden_act: raw.hidden_act,
        attention_bias: raw.attention_bias && family.has_bias_switch(),
        sliding_window,
        tie_word_embeddings: raw.tie_word_embeddings,
        bos_token_id: raw.bos_token_id,
        eos_token_id: raw.eos_token_id,
        pad_token_id: raw.pad_token_id.and_then(|id| u32::try_from(id).ok()),
    })
}

/// The window of the layers that have one: for Mistral all, for Qwen what `layer_types` says or those from `max_window_layers` on.
fn sliding_window(family: Family, raw: &RawConfig) -> Result<Option<SlidingWindow>, ConfigError> {
    let stated = layer_types(raw)?;
    let has_sliding = |types: &[LayerType]| types.contains(&LayerType::SlidingAttention);
    let applies = family == Family::Mistral || raw.use_sliding_window;
    let Some(positions) = raw.sliding_window.filter(|_| applies) else {
        let full = !stated.as_deref().is_some_and(has_sliding);
        let supported = "\"full_attention\" only, where there is no `sliding_window` in use";
        require("layer_types", raw.layer_types.clone(), full, supported)?;
        return Ok(None);
    };
    let first = if family == Family::Mistral { 0 } else { raw.max_window_layers.unwrap_or(0) };
    let layer_types = stated.unwrap_or_else(|| {
        let layer_type = |index| if index < first { LayerType::FullAttention } else { LayerType::SlidingAttention };
        (0..raw.num_hidden_layers).map(layer_type).collect()
    });
    Ok(has_sliding(&layer_types).then_some(SlidingWindow { positions, layer_types }))
}

fn layer_types(raw: &RawConfig) -> Result<Option<Vec<LayerType>>, ConfigError> {
    let Some(stated) = &raw.layer_types else { return Ok(None) };
    let known = stated.iter().map(|value| serde_json::from_value(value.clone())).collect::<Result<Vec<_>, _>>();
    let supported = "\"full_attention\" and \"sliding_attention\", one for each layer";
    let fits = known.as_ref().is_ok_and(|known| known.len() == raw.num_hidden_layers);
    require("layer_types", stated.clone(), fits, supported)?;
    Ok(known.ok())
}

fn default_head_dim(raw: &RawConfig) -> Result<usize, ConfigError> {
    let heads = raw.num_attention_heads;
    let divides = heads > 0 && raw.hidden_size.is_multiple_of(heads);
    size("hidden_size", raw.hidden_size, divides, || {
        format!("a multiple of `num_attention_heads`, which is {heads}, where no `head_dim` is given")
    })?;
    Ok(raw.hidden_size / heads)
}
