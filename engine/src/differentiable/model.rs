//! The Llama family as a differentiable function of its weights: rows of tokens in, logits of selected rows out.
//!
//! Weights that read the same input are one variable (queries, keys and values; gate and up): fewer and larger products.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::{AttentionShape, RopeTable, RowLayout, attention, linear, linear_with_residual, rms_norm, silu_multiply};
use crate::checkpoint::ModelConfig;

/// Everything about a model but its weights.
#[derive(Clone, Debug)]
pub struct Dimensions {
    /// Rows of the embedding.
    pub vocabulary_size: usize,
    /// Values of a row between layers.
    pub hidden_size: usize,
    /// Values of a row inside the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
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
            layers: config.num_hidden_layers,
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

/// A model whose weights are variables.
#[derive(Debug)]
pub struct DifferentiableModel {
    dimensions: Dimensions,
    embedding: Var,
    layers: Vec<Layer>,
    norm: Var,
    lm_head: Option<Var>,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Var,
    qkv: Var,
    output: Var,
    mlp_norm: Var,
    gate_up: Var,
    down: Var,
}

impl DifferentiableModel {
    /// Reads every weight by its Hugging Face name (`model.layers.0.self_attn.q_proj.weight`, …) and converts it to `dtype`, f32 or
    /// f64. Fails where a weight is missing or has another shape than `dimensions` say.
    pub fn new(dimensions: Dimensions, dtype: DType, mut read: impl FnMut(&str) -> Result<Tensor>) -> Result<Self> {
        let d = &dimensions;
        let mut reader = Reader { dtype, read: &mut read };
        let embedding = reader.variable(&[("model.embed_tokens.weight", d.vocabulary_size)], Some(d.hidden_size))?;
        let layers = (0..d.layers).map(|index| Layer::new(d, index, &mut reader)).collect::<Result<_>>()?;
        let norm = reader.variable(&[("model.norm.weight", d.hidden_size)], None)?;
        let lm_head = if d.tied_embeddings {
            None
        } else {
            Some(reader.variable(&[("lm_head.weight", d.vocabulary_size)], Some(d.hidden_size))?)
        };
        Ok(Self { dimensions, embedding, layers, norm, lm_head })
    }

    /// The dimensions that it was made with.
    pub fn dimensions(&self) -> &Dimensions {
        &self.dimensions
    }

    /// Every variable with a name, always in the same order.
    pub fn variables(&self) -> Vec<(String, &Var)> {
        let mut variables = vec![("embedding".to_owned(), &self.embedding)];
        for (index, layer) in self.layers.iter().enumerate() {
            let named = [
                ("attention_norm", &layer.attention_norm),
                ("qkv", &layer.qkv),
                ("output", &layer.output),
                ("mlp_norm", &layer.mlp_norm),
                ("gate_up", &layer.gate_up),
                ("down", &layer.down),
            ];
            variables.extend(named.map(|(name, variable)| (format!("layers.{index}.{name}"), variable)));
        }
        variables.push(("norm".to_owned(), &self.norm));
        variables.extend(self.lm_head.as_ref().map(|lm_head| ("lm_head".to_owned(), lm_head)));
        variables
    }

    /// Every weight under its Hugging Face name, in its shape there.
    pub fn export(&self) -> Result<Vec<(String, Tensor)>> {
        let d = &self.dimensions;
        let mut weights = vec![("model.embed_tokens.weight".to_owned(), self.embedding.as_detached_tensor())];
        for (index, layer) in self.layers.iter().enumerate() {
            let [attention_norm, mlp_norm, output, down] = Layer::plain_names(index);
            weights.push((attention_norm, layer.attention_norm.as_detached_tensor()));
            weights.push((mlp_norm, layer.mlp_norm.as_detached_tensor()));
            weights.push((output, layer.output.as_detached_tensor()));
            weights.push((down, layer.down.as_detached_tensor()));
            weights.extend(split(&layer.qkv, &Layer::qkv_parts(d, index))?);
            weights.extend(split(&layer.gate_up, &Layer::gate_up_parts(d, index))?);
        }
        weights.push(("model.norm.weight".to_owned(), self.norm.as_detached_tensor()));
        if let Some(lm_head) = &self.lm_head {
            weights.push(("lm_head.weight".to_owned(), lm_head.as_detached_tensor()));
        }
        Ok(weights)
    }

    /// Logits `[selected, vocabulary]` of the selected rows of a batch, in the order given. One token a row.
    pub fn logits(&self, token_ids: &[u32], rows: &Arc<RowLayout>, selected: &[u32]) -> Result<Tensor> {
        if token_ids.len() != rows.rows() {
            bail!("a batch of {} rows takes as many tokens, found {}", rows.rows(), token_ids.len())
        }
        let rope = Arc::new(RopeTable::new(rows.positions(), &self.dimensions.rope_frequencies));
        let selected = Tensor::from_slice(selected, selected.len(), &Device::Cpu)?;
        let ids = Tensor::from_slice(token_ids, token_ids.len(), &Device::Cpu)?;
        let mut x = self.embedding.index_select(&ids, 0)?;
        for (index, layer) in self.layers.iter().enumerate() {
            // after the last attention no row looks at another: the rest is computed for selected rows only
            let kept = (index + 1 == self.layers.len()).then_some(&selected);
            x = layer.forward(&self.dimensions, &x, rows, &rope, kept)?;
        }
        let normed = rms_norm(&x, &self.norm, self.dimensions.norm_epsilon)?;
        linear(&normed, self.lm_head.as_ref().unwrap_or(&self.embedding))
    }
}

impl Layer {
    fn new(d: &Dimensions, index: usize, reader: &mut Reader<'_>) -> Result<Self> {
        let prefix = format!("model.layers.{index}");
        let vector = |name: &str| vec![(format!("{prefix}.{name}.weight"), d.hidden_size)];
        Ok(Self {
            attention_norm: reader.variable(&borrowed(&vector("input_layernorm")), None)?,
            qkv: reader.variable(&borrowed(&Self::qkv_parts(d, index)), Some(d.hidden_size))?,
            output: reader.variable(&borrowed(&vector("self_attn.o_proj")), Some(d.attention.query_width()))?,
            mlp_norm: reader.variable(&borrowed(&vector("post_attention_layernorm")), None)?,
            gate_up: reader.variable(&borrowed(&Self::gate_up_parts(d, index)), Some(d.hidden_size))?,
            down: reader.variable(&borrowed(&vector("mlp.down_proj")), Some(d.intermediate_size))?,
        })
    }

    fn plain_names(index: usize) -> [String; 4] {
        ["input_layernorm", "post_attention_layernorm", "self_attn.o_proj", "mlp.down_proj"]
            .map(|name| format!("model.layers.{index}.{name}.weight"))
    }

    fn qkv_parts(d: &Dimensions, index: usize) -> [(String, usize); 3] {
        let (queries, keys) = (d.attention.query_width(), d.attention.kv_width());
        [("q", queries), ("k", keys), ("v", keys)]
            .map(|(name, rows)| (format!("model.layers.{index}.self_attn.{name}_proj.weight"), rows))
    }

    fn gate_up_parts(d: &Dimensions, index: usize) -> [(String, usize); 2] {
        ["gate", "up"].map(|name| (format!("model.layers.{index}.mlp.{name}_proj.weight"), d.intermediate_size))
    }

    fn forward(
        &self,
        d: &Dimensions,
        x: &Tensor,
        rows: &Arc<RowLayout>,
        rope: &Arc<RopeTable>,
        kept: Option<&Tensor>,
    ) -> Result<Tensor> {
        let normed = rms_norm(x, &self.attention_norm, d.norm_epsilon)?;
        let attended = attention(&linear(&normed, &self.qkv)?, d.attention, rows, rope)?;
        let (attended, x) = match kept {
            None => (attended, x.clone()),
            Some(kept) => (attended.index_select(kept, 0)?, x.index_select(kept, 0)?),
        };
        let x = linear_with_residual(&attended, &self.output, &x)?;
        let normed = rms_norm(&x, &self.mlp_norm, d.norm_epsilon)?;
        linear_with_residual(&silu_multiply(&linear(&normed, &self.gate_up)?)?, &self.down, &x)
    }
}

struct Reader<'a> {
    dtype: DType,
    read: &'a mut dyn FnMut(&str) -> Result<Tensor>,
}

impl Reader<'_> {
    /// The named weights, one below the other: each `[rows]` or `[rows, columns]`.
    fn variable(&mut self, parts: &[(&str, usize)], columns: Option<usize>) -> Result<Var> {
        let mut tensors = Vec::with_capacity(parts.len());
        for &(name, rows) in parts {
            let tensor = (self.read)(name)?.to_device(&Device::Cpu)?.to_dtype(self.dtype)?;
            let expected: Vec<usize> = std::iter::once(rows).chain(columns).collect();
            if tensor.dims() != expected {
                bail!("the weight {name} has the shape {:?}, the configuration says {expected:?}", tensor.dims())
            }
            tensors.push(tensor);
        }
        Var::from_tensor(&Tensor::cat(&tensors, 0)?.contiguous()?)
    }
}

fn borrowed(parts: &[(String, usize)]) -> Vec<(&str, usize)> {
    parts.iter().map(|(name, rows)| (name.as_str(), *rows)).collect()
}

fn split(variable: &Var, parts: &[(String, usize)]) -> Result<Vec<(String, Tensor)>> {
    let mut start = 0;
    let mut named = Vec::with_capacity(parts.len());
    for (name, rows) in parts {
        named.push((name.clone(), variable.as_detached_tensor().narrow(0, start, *rows)?.contiguous()?));
        start += rows;
    }
    Ok(named)
}
