//! The Llama family as a differentiable function of its weights: rows of tokens in, logits of selected rows out.
//!
//! Weights that read the same input are one variable (queries, keys and values; gate and up): fewer and larger products.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::{AttentionShape, RopeTable, RowLayout, attention, linear, linear_with_residual, rms_norm, silu_multiply};
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
    qkv_bias: Option<Var>,
    query_norm: Option<Var>,
    key_norm: Option<Var>,
    window: Option<usize>,
    output: Var,
    output_bias: Option<Var>,
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
        let embedding =
            reader.variable(&[("model.embed_tokens.weight".to_owned(), d.vocabulary_size)], Some(d.hidden_size))?;
        let layers = (0..d.layers.len()).map(|index| Layer::new(d, index, &mut reader)).collect::<Result<_>>()?;
        let norm = reader.variable(&[("model.norm.weight".to_owned(), d.hidden_size)], None)?;
        let lm_head = if d.tied_embeddings {
            None
        } else {
            Some(reader.variable(&[("lm_head.weight".to_owned(), d.vocabulary_size)], Some(d.hidden_size))?)
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
                ("attention_norm", Some(&layer.attention_norm)),
                ("qkv", Some(&layer.qkv)),
                ("qkv_bias", layer.qkv_bias.as_ref()),
                ("query_norm", layer.query_norm.as_ref()),
                ("key_norm", layer.key_norm.as_ref()),
                ("output", Some(&layer.output)),
                ("output_bias", layer.output_bias.as_ref()),
                ("mlp_norm", Some(&layer.mlp_norm)),
                ("gate_up", Some(&layer.gate_up)),
                ("down", Some(&layer.down)),
            ];
            let present = named.into_iter().filter_map(|(name, variable)| Some((name, variable?)));
            variables.extend(present.map(|(name, variable)| (format!("layers.{index}.{name}"), variable)));
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
            layer.export(d, index, &mut weights)?;
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
        let LayerDescription { qkv_bias, output_bias, head_norms, window } = d.layers[index];
        let mut matrix = |parts: &[Part], columns| reader.variable(parts, Some(columns));
        let qkv = matrix(&Self::qkv_parts(d, index, "weight"), d.hidden_size)?;
        let output = matrix(&[Self::part(index, "self_attn.o_proj.weight", d.hidden_size)], d.attention.query_width())?;
        let gate_up = matrix(&Self::gate_up_parts(d, index), d.hidden_size)?;
        let down = matrix(&[Self::part(index, "mlp.down_proj.weight", d.hidden_size)], d.intermediate_size)?;
        let mut vector = |name: &str, length| reader.variable(&[Self::part(index, name, length)], None);
        Ok(Self {
            attention_norm: vector("input_layernorm.weight", d.hidden_size)?,
            mlp_norm: vector("post_attention_layernorm.weight", d.hidden_size)?,
            query_norm: if_present(head_norms, || vector("self_attn.q_norm.weight", d.attention.head_dim))?,
            key_norm: if_present(head_norms, || vector("self_attn.k_norm.weight", d.attention.head_dim))?,
            output_bias: if_present(output_bias, || vector("self_attn.o_proj.bias", d.hidden_size))?,
            qkv_bias: if_present(qkv_bias, || reader.variable(&Self::qkv_parts(d, index, "bias"), None))?,
            window,
            qkv,
            output,
            gate_up,
            down,
        })
    }

    /// Adds the weights under their Hugging Face names.
    fn export(&self, d: &Dimensions, index: usize, weights: &mut Vec<(String, Tensor)>) -> Result<()> {
        for (name, variable) in [
            ("input_layernorm.weight", Some(&self.attention_norm)),
            ("post_attention_layernorm.weight", Some(&self.mlp_norm)),
            ("self_attn.o_proj.weight", Some(&self.output)),
            ("self_attn.o_proj.bias", self.output_bias.as_ref()),
            ("self_attn.q_norm.weight", self.query_norm.as_ref()),
            ("self_attn.k_norm.weight", self.key_norm.as_ref()),
            ("mlp.down_proj.weight", Some(&self.down)),
        ] {
            let tensor = variable.map(Var::as_detached_tensor);
            weights.extend(tensor.map(|tensor| (format!("model.layers.{index}.{name}"), tensor)));
        }
        weights.extend(split(&self.qkv, &Self::qkv_parts(d, index, "weight"))?);
        if let Some(bias) = &self.qkv_bias {
            weights.extend(split(bias, &Self::qkv_parts(d, index, "bias"))?);
        }
        weights.extend(split(&self.gate_up, &Self::gate_up_parts(d, index))?);
        Ok(())
    }

    fn part(index: usize, name: &str, rows: usize) -> Part {
        (format!("model.layers.{index}.{name}"), rows)
    }

    /// `kind` is `weight` or `bias`.
    fn qkv_parts(d: &Dimensions, index: usize, kind: &str) -> [Part; 3] {
        let (queries, keys) = (d.attention.query_width(), d.attention.kv_width());
        [("q", queries), ("k", keys), ("v", keys)]
            .map(|(name, rows)| Self::part(index, &format!("self_attn.{name}_proj.{kind}"), rows))
    }

    fn gate_up_parts(d: &Dimensions, index: usize) -> [Part; 2] {
        ["gate", "up"].map(|name| Self::part(index, &format!("mlp.{name}_proj.weight"), d.intermediate_size))
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
        let attended = attention(&self.qkv(d, &normed)?, d.attention, self.window, rows, rope)?;
        let (attended, x) = match kept {
            None => (attended, x.clone()),
            Some(kept) => (attended.index_select(kept, 0)?, x.index_select(kept, 0)?),
        };
        let x = add_bias(linear_with_residual(&attended, &self.output, &x)?, self.output_bias.as_ref())?;
        let normed = rms_norm(&x, &self.mlp_norm, d.norm_epsilon)?;
        linear_with_residual(&silu_multiply(&linear(&normed, &self.gate_up)?)?, &self.down, &x)
    }

    /// Queries, keys and values as attention takes them.
    fn qkv(&self, d: &Dimensions, normed: &Tensor) -> Result<Tensor> {
        let qkv = add_bias(linear(normed, &self.qkv)?, self.qkv_bias.as_ref())?;
        let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) else { return Ok(qkv) };
        let (queries, keys) = (d.attention.query_width(), d.attention.kv_width());
        let part = |start, width| qkv.narrow(1, start, width)?.contiguous();
        // the norm takes rows of the length of its weight: heads
        let q = rms_norm(&part(0, queries)?, query_norm, d.norm_epsilon)?;
        let k = rms_norm(&part(queries, keys)?, key_norm, d.norm_epsilon)?;
        Tensor::cat(&[&q, &k, &part(queries + keys, keys)?], 1)?.contiguous()
    }
}

/// `x` `[rows, values]` plus a bias `[values]`.
fn add_bias(x: Tensor, bias: Option<&Var>) -> Result<Tensor> {
    match bias {
        Some(bias) => x.broadcast_add(bias),
        None => Ok(x),
    }
}

/// Name of a weight and its rows.
type Part = (String, usize);

fn if_present<T>(present: bool, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    present.then(read).transpose()
}

struct Reader<'a> {
    dtype: DType,
    read: &'a mut dyn FnMut(&str) -> Result<Tensor>,
}

impl Reader<'_> {
    /// The named weights, one below the other: each `[rows]` or `[rows, columns]`.
    fn variable(&mut self, parts: &[Part], columns: Option<usize>) -> Result<Var> {
        let mut tensors = Vec::with_capacity(parts.len());
        for (name, rows) in parts {
            let tensor = (self.read)(name)?.to_device(&Device::Cpu)?.to_dtype(self.dtype)?;
            let expected: Vec<usize> = std::iter::once(*rows).chain(columns).collect();
            if tensor.dims() != expected {
                bail!("the weight {name} has the shape {:?}, the configuration says {expected:?}", tensor.dims())
            }
            tensors.push(tensor);
        }
        Var::from_tensor(&Tensor::cat(&tensors, 0)?.contiguous()?)
    }
}

fn split(variable: &Var, parts: &[Part]) -> Result<Vec<(String, Tensor)>> {
    let mut start = 0;
    let mut named = Vec::with_capacity(parts.len());
    for (name, rows) in parts {
        named.push((name.clone(), variable.as_detached_tensor().narrow(0, start, *rows)?.contiguous()?));
        start += rows;
    }
    Ok(named)
}
