//! The weights of a model in the order of its layers: parameters for training, plain tensors for inference.
//!
//! Weights that read the same input are one (queries, keys and values; gate and up): fewer and larger products.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::Dimensions;
use super::adapter::Adapter;
use crate::checkpoint::LayerDescription;

/// A weight: a [`super::adapter::Parameter`] or a [`Tensor`].
pub(crate) trait Weight {
    /// What operations take.
    fn tensor(&self) -> &Tensor;

    /// What is learnt beside it.
    fn adapter(&self) -> Option<&Adapter> {
        None
    }
}

impl Weight for Tensor {
    fn tensor(&self) -> &Tensor {
        self
    }
}

/// All weights.
#[derive(Debug)]
pub(crate) struct ModelWeights<W> {
    pub(crate) embedding: W,
    pub(crate) layers: Vec<LayerWeights<W>>,
    pub(crate) norm: W,
    /// None where the embedding is the last linear layer too.
    pub(crate) lm_head: Option<W>,
}

/// Those of one layer.
#[derive(Debug)]
pub(crate) struct LayerWeights<W> {
    pub(crate) attention_norm: W,
    pub(crate) qkv: W,
    pub(crate) qkv_bias: Option<W>,
    pub(crate) query_norm: Option<W>,
    pub(crate) key_norm: Option<W>,
    pub(crate) window: Option<usize>,
    pub(crate) output: W,
    pub(crate) output_bias: Option<W>,
    pub(crate) mlp_norm: W,
    pub(crate) gate_up: W,
    pub(crate) down: W,
}

impl<W: Weight> ModelWeights<W> {
    /// Reads every weight by its Hugging Face name. Fails where one is missing or has another shape than `d` says.
    pub(crate) fn read(d: &Dimensions, reader: &mut Reader<'_, W>) -> Result<Self> {
        let vocabulary = |name: &str| [(name.to_owned(), d.vocabulary_size)];
        let embedding = reader.weight(&vocabulary("model.embed_tokens.weight"), Some(d.hidden_size))?;
        let layers = (0..d.layers.len()).map(|index| LayerWeights::read(d, index, reader)).collect::<Result<_>>()?;
        let norm = reader.weight(&[("model.norm.weight".to_owned(), d.hidden_size)], None)?;
        let lm_head =
            if_present(!d.tied_embeddings, || reader.weight(&vocabulary("lm_head.weight"), Some(d.hidden_size)))?;
        Ok(Self { embedding, layers, norm, lm_head })
    }

    /// Every weight with a name of its own, always in the same order.
    pub(crate) fn named(&self) -> Vec<(String, &W)> {
        let mut weights = vec![("embedding".to_owned(), &self.embedding)];
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
            let present = named.into_iter().filter_map(|(name, weight)| Some((name, weight?)));
            weights.extend(present.map(|(name, weight)| (format!("layers.{index}.{name}"), weight)));
        }
        weights.push(("norm".to_owned(), &self.norm));
        weights.extend(self.lm_head.as_ref().map(|lm_head| ("lm_head".to_owned(), lm_head)));
        weights
    }

    /// Every weight under its Hugging Face name, in its shape there, on the CPU.
    pub(crate) fn export(&self, d: &Dimensions) -> Result<Vec<(String, Tensor)>> {
        let mut weights = vec![("model.embed_tokens.weight".to_owned(), exported(&self.embedding)?)];
        for (index, layer) in self.layers.iter().enumerate() {
            layer.export(d, index, &mut weights)?;
        }
        weights.push(("model.norm.weight".to_owned(), exported(&self.norm)?));
        if let Some(lm_head) = &self.lm_head {
            weights.push(("lm_head.weight".to_owned(), exported(lm_head)?));
        }
        Ok(weights)
    }
}

impl<W: Weight> LayerWeights<W> {
    fn read(d: &Dimensions, index: usize, reader: &mut Reader<'_, W>) -> Result<Self> {
        let LayerDescription { qkv_bias, output_bias, head_norms, window } = d.layers[index];
        let mut matrix = |parts: &[Part], columns| reader.weight(parts, Some(columns));
        let qkv = matrix(&qkv_parts(d, index, "weight"), d.hidden_size)?;
        let output = matrix(&[output_part(d, index)], d.attention.query_width())?;
        let gate_up = matrix(&gate_up_parts(d, index), d.hidden_size)?;
        let down = matrix(&[down_part(d, index)], d.intermediate_size)?;
        let mut vector = |name: &str, length| reader.weight(&[part(index, name, length)], None);
        Ok(Self {
            attention_norm: vector("input_layernorm.weight", d.hidden_size)?,
            mlp_norm: vector("post_attention_layernorm.weight", d.hidden_size)?,
            query_norm: if_present(head_norms, || vector("self_attn.q_norm.weight", d.attention.head_dim))?,
            key_norm: if_present(head_norms, || vector("self_attn.k_norm.weight", d.attention.head_dim))?,
            output_bias: if_present(output_bias, || vector("self_attn.o_proj.bias", d.hidden_size))?,
            qkv_bias: if_present(qkv_bias, || reader.weight(&qkv_parts(d, index, "bias"), None))?,
            window,
            qkv,
            output,
            gate_up,
            down,
        })
    }

    /// Adds the weights under their Hugging Face names.
    fn export(&self, d: &Dimensions, index: usize, weights: &mut Vec<(String, Tensor)>) -> Result<()> {
        for (name, weight) in [
            ("input_layernorm.weight", Some(&self.attention_norm)),
            ("post_attention_layernorm.weight", Some(&self.mlp_norm)),
            ("self_attn.o_proj.bias", self.output_bias.as_ref()),
            ("self_attn.q_norm.weight", self.query_norm.as_ref()),
            ("self_attn.k_norm.weight", self.key_norm.as_ref()),
        ] {
            if let Some(weight) = weight {
                weights.push((format!("model.layers.{index}.{name}"), exported(weight)?));
            }
        }
        for (matrix, parts) in self.matrices(d, index) {
            weights.extend(split(&exported(matrix)?, &parts)?);
        }
        if let Some(bias) = &self.qkv_bias {
            weights.extend(split(&exported(bias)?, &qkv_parts(d, index, "bias"))?);
        }
        Ok(())
    }

    /// The matrices, each with the weights of the checkpoint that it is put together from.
    pub(crate) fn matrices(&self, d: &Dimensions, index: usize) -> [(&W, Vec<Part>); 4] {
        [
            (&self.qkv, qkv_parts(d, index, "weight").to_vec()),
            (&self.output, vec![output_part(d, index)]),
            (&self.gate_up, gate_up_parts(d, index).to_vec()),
            (&self.down, vec![down_part(d, index)]),
        ]
    }
}

/// Name of a weight and its rows.
pub(crate) type Part = (String, usize);

fn part(index: usize, name: &str, rows: usize) -> Part {
    (format!("model.layers.{index}.{name}"), rows)
}

/// `kind` is `weight` or `bias`.
fn qkv_parts(d: &Dimensions, index: usize, kind: &str) -> [Part; 3] {
    let (queries, keys) = (d.attention.query_width(), d.attention.kv_width());
    [("q", queries), ("k", keys), ("v", keys)]
        .map(|(name, rows)| part(index, &format!("self_attn.{name}_proj.{kind}"), rows))
}

fn output_part(d: &Dimensions, index: usize) -> Part {
    part(index, "self_attn.o_proj.weight", d.hidden_size)
}

fn gate_up_parts(d: &Dimensions, index: usize) -> [Part; 2] {
    ["gate", "up"].map(|name| part(index, &format!("mlp.{name}_proj.weight"), d.intermediate_size))
}

fn down_part(d: &Dimensions, index: usize) -> Part {
    part(index, "mlp.down_proj.weight", d.hidden_size)
}

fn if_present<T>(present: bool, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    present.then(read).transpose()
}

/// Where weights come from and what they become.
pub(crate) struct Reader<'a, W> {
    pub(crate) dtype: DType,
    pub(crate) device: &'a Device,
    /// By Hugging Face name.
    pub(crate) read: &'a mut dyn FnMut(&str) -> Result<Tensor>,
    pub(crate) make: fn(Tensor) -> Result<W>,
}

impl<W> Reader<'_, W> {
    /// The named weights, one below the other: each `[rows]` or `[rows, columns]`.
    fn weight(&mut self, parts: &[Part], columns: Option<usize>) -> Result<W> {
        let mut tensors = Vec::with_capacity(parts.len());
        for (name, rows) in parts {
            let tensor = (self.read)(name)?.to_dtype(self.dtype)?.to_device(self.device)?;
            let expected: Vec<usize> = std::iter::once(*rows).chain(columns).collect();
            if tensor.dims() != expected {
                bail!("the weight {name} has the shape {:?}, the configuration says {expected:?}", tensor.dims())
            }
            tensors.push(tensor);
        }
        (self.make)(Tensor::cat(&tensors, 0)?.contiguous()?)
    }
}

/// The whole weight on the CPU, with what was learnt beside it.
fn exported(weight: &impl Weight) -> Result<Tensor> {
    let tensor = weight.tensor().detach();
    let merged = match weight.adapter() {
        Some(adapter) => adapter.merged(&tensor)?,
        None => tensor,
    };
    merged.to_device(&Device::Cpu)
}

/// A weight as the parts that it is put together from.
pub(crate) fn split(weight: &Tensor, parts: &[Part]) -> Result<Vec<(String, Tensor)>> {
    let mut start = 0;
    let mut named = Vec::with_capacity(parts.len());
    for (name, rows) in parts {
        named.push((name.clone(), weight.narrow(0, start, *rows)?.contiguous()?));
        start += rows;
    }
    Ok(named)
}
