//! From GGUF metadata to a `config.json` as Hugging Face has it, which is then checked like any other.

use serde_json::{Value, json};

use super::header::{Header, TensorInfo};
use super::metadata::Metadata;
use super::{GgufError, rope};
use crate::checkpoint::LayerType;

/// Architectures whose tensors we know; whether the engine computes them is for the configuration to say.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// What the file calls its architecture.
pub(super) fn architecture<'a>(metadata: &Metadata<'a>) -> Result<&'a str, GgufError> {
    let key = "general.architecture";
    let found = required(metadata.text(key)?, key, "a string such as \"llama\"")?;
    if ARCHITECTURES.contains(&found) {
        return Ok(found);
    }
    let supported = ARCHITECTURES.join(", ");
    Err(GgufError::Unsupported { key: key.to_owned(), found: format!("{found:?}"), supported })
}

/// The configuration, without the ids of tokens. `factors` are the contents of `rope_freqs.weight`, where there is one.
pub(super) fn config(header: &Header<'_>, factors: Option<&[f32]>) -> Result<Value, GgufError> {
    let architecture = architecture(&header.metadata)?;
    let values = Values { metadata: &header.metadata, architecture };
    let has = |name: &str| header.tensors.iter().any(|tensor| tensor.name == name);
    let heads = values.required_count("attention.head_count")?;
    let hidden = values.required_count("embedding_length")?;
    let head_dim = match values.count("attention.key_length")? {
        Some(width) => width,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    values.refuse_variants(head_dim)?;
    let sliding_window = values.count("attention.sliding_window")?.filter(|&window| window > 0);
    let mut config = json!({
        "model_type": model_type(architecture, sliding_window.is_some()),
        "vocab_size": vocabulary_size(&header.tensors)?,
        "hidden_size": hidden,
        "intermediate_size": values.required_count("feed_forward_length")?,
        "num_hidden_layers": values.required_count("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": values.count("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": values.required_count("context_length")?,
        "rms_norm_eps": values.required_number("attention.layer_norm_rms_epsilon")?,
        "rope_theta": values.number("rope.freq_base")?.unwrap_or(rope::DEFAULT_THETA),
        "rope_scaling": values.rope_scaling(head_dim, factors)?,
        "hidden_act": "silu",
        "tie_word_embeddings": !has("output.weight"),
        "attention_bias": has("blk.0.attn_q.bias"),
        "mlp_bias": has("blk.0.ffn_gate.bias"),
        "sliding_window": sliding_window,
        "use_sliding_window": sliding_window.is_some(),
    });
    if let Some(slides) = values.metadata.bools(&values.key("attention.sliding_window_pattern"))? {
        let layer_type = |slides| if slides { LayerType::SlidingAttention } else { LayerType::FullAttention };
        config["layer_types"] = json!(slides.into_iter().map(layer_type).collect::<Vec<_>>());
    }
    Ok(config)
}

/// Files of the Llama architecture hold Mistral models too; what tells them apart is the window.
fn model_type(architecture: &str, has_window: bool) -> &str {
    if architecture == "llama" && has_window { "mistral" } else { architecture }
}

/// Rows of the embedding: the tokenizer may have fewer tokens.
fn vocabulary_size(tensors: &[TensorInfo]) -> Result<usize, GgufError> {
    let embedding = tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
    embedding.and_then(|tensor| tensor.shape.first().copied()).ok_or(GgufError::NoEmbedding)
}

fn required<T>(value: Option<T>, key: &str, expected: &'static str) -> Result<T, GgufError> {
    value.ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected })
}

/// Values whose keys begin with the architecture.
struct Values<'a> {
    metadata: &'a Metadata<'a>,
    architecture: &'a str,
}

impl Values<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn count(&self, name: &str) -> Result<Option<u64>, GgufError> {
        self.metadata.count(&self.key(name))
    }

    fn required_count(&self, name: &str) -> Result<u64, GgufError> {
        required(self.count(name)?, &self.key(name), "an integer")
    }

    /// As the author wrote it: 1e-5, not its nearest f32 in 17 digits.
    fn number(&self, name: &str) -> Result<Option<f64>, GgufError> {
        let number = self.metadata.number(&self.key(name))?;
        Ok(number.map(|number| (number as f32).to_string().parse().unwrap_or(number)))
    }

    fn required_number(&self, name: &str) -> Result<f64, GgufError> {
        required(self.number(name)?, &self.key(name), "a number")
    }

    fn unsupported(&self, name: &str, found: u64, supported: &str) -> GgufError {
        GgufError::Unsupported { key: self.key(name), found: found.to_string(), supported: supported.to_owned() }
    }

    /// What would be computed wrongly if it were ignored.
    fn refuse_variants(&self, head_dim: u64) -> Result<(), GgufError> {
        if let Some(experts @ 1..) = self.count("expert_count")? {
            return Err(self.unsupported("expert_count", experts, "0 (no mixture of experts)"));
        }
        for name in ["rope.dimension_count", "attention.value_length"] {
            if let Some(found) = self.count(name)?.filter(|&found| found != head_dim) {
                return Err(self.unsupported(name, found, &format!("{head_dim}, the width of a head")));
            }
        }
        Ok(())
    }

    fn rope_scaling(&self, head_dim: u64, factors: Option<&[f32]>) -> Result<Value, GgufError> {
        if let Some(factors) = factors {
            let theta = self.number("rope.freq_base")?.unwrap_or(rope::DEFAULT_THETA);
            let original = self.count(rope::ORIGINAL_CONTEXT_KEY)?.unwrap_or(rope::ORIGINAL_CONTEXT);
            return rope::llama3_scaling(factors, theta, head_dim as usize, original)
                .ok_or_else(|| rope::unknown_factors(super::names::ROPE_FACTORS));
        }
        let kind = self.metadata.text(&self.key("rope.scaling.type"))?;
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.number("rope.scale_linear")?,
        };
        // Other kinds go through as well: the configuration refuses them in its own words.
        Ok(match (kind, factor) {
            (Some("none"), _) | (None, None) | (None | Some("linear"), Some(1.0)) => Value::Null,
            (kind, factor) => json!({ "rope_type": kind.unwrap_or("linear"), "factor": factor }),
        })
    }
}
