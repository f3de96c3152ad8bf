//! The forward on the processor, by our own kernels: weights packed once, in the storage that they have.

mod forward;
mod weights;

use std::sync::Arc;

use super::memory::{available_memory, check};
use super::{ComputeOptions, LoadError};
use crate::checkpoint::{Checkpoint, LayerDescription, ModelConfig};
use crate::kernels::{InstructionSet, PackedLinear, Storage, ThreadPool};
use weights::Weights;

/// Packed weights and the threads that compute with them.
#[derive(Debug)]
pub(super) struct PackedModel {
    config: Arc<ModelConfig>,
    instruction_set: InstructionSet,
    pool: ThreadPool,
    rope_frequencies: Vec<f32>,
    /// `[vocab, hidden]`; none where the output layer is the embedding.
    embedding: Option<PackedLinear>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    lm_head: PackedLinear,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    /// Queries, keys and values of a row, one after the other.
    qkv: PackedLinear,
    /// Of queries, keys and values, like `qkv`; empty where there is none, as are the next two.
    qkv_bias: Vec<f32>,
    query_norm: Vec<f32>,
    key_norm: Vec<f32>,
    /// Positions that a row sees, its own included; none for all before it.
    window: Option<usize>,
    output: PackedLinear,
    output_bias: Vec<f32>,
    mlp_norm: Vec<f32>,
    gate_up: PackedLinear,
    down: PackedLinear,
}

impl PackedModel {
    /// Packs the weights of a checkpoint and starts the compute threads.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        config: Arc<ModelConfig>,
        instruction_set: InstructionSet,
        options: ComputeOptions,
    ) -> Result<Self, LoadError> {
        let weights = Weights::new(checkpoint, options.storage);
        check(weights.packed_bytes(), available_memory())?;
        let embedding = weights.stacked(&["model.embed_tokens.weight"])?;
        let (embedding, lm_head) = if config.tie_word_embeddings {
            (None, embedding)
        } else {
            (Some(embedding), weights.stacked(&["lm_head.weight"])?)
        };
        Ok(Self {
            instruction_set,
            pool: ThreadPool::new(options.threads())?,
            rope_frequencies: config.rope_frequencies(),
            embedding,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(weights, &config, index))
                .collect::<Result<_, _>>()?,
            norm: weights.values("model.norm.weight")?,
            lm_head,
            config,
        })
    }

    /// Bytes that the weights of a checkpoint will take, but for the padding of panels.
    pub(super) fn expected_weight_bytes(checkpoint: &Checkpoint) -> u64 {
        Weights::new(checkpoint, None).packed_bytes()
    }

    /// Threads that compute, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// How its linear layers are stored, the widest first.
    pub(super) fn storages(&self) -> Vec<Storage> {
        let layers = self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]);
        let mut storages: Vec<_> = layers.chain([&self.lm_head]).map(PackedLinear::storage).collect();
        storages.sort_unstable_by(|a, b| b.cmp(a));
        storages.dedup();
        storages
    }

    /// Bytes of memory that its packed weights take for as long as it lives.
    pub(super) fn weight_bytes(&self) -> u64 {
        let ends = self.embedding.iter().chain([&self.lm_head]).map(PackedLinear::bytes).sum::<usize>();
        let layers: usize = self.layers.iter().map(Layer::weight_bytes).sum();
        (ends + layers + size_of_val(&self.norm[..])) as u64
    }

    /// Copies the embedding of a token into a row.
    fn embed(&self, token: u32, row: &mut [f32]) {
        self.embedding.as_ref().unwrap_or(&self.lm_head).copy_weights(token as usize, row);
    }
}

impl Layer {
    fn load(weights: Weights<'_>, config: &ModelConfig, index: usize) -> Result<Self, LoadError> {
        let name = |name: &str| format!("model.layers.{index}.{name}");
        let if_present = |is_present: bool, tensor: &str| {
            if is_present { weights.values(&name(tensor)) } else { Ok(Vec::new()) }
        };
        let LayerDescription { qkv_bias, output_bias, head_norms, window } = config.layer(index);
        let [q, k, v] = ["q", "k", "v"].map(|kind| name(&format!("self_attn.{kind}_proj.weight")));
        let biases = ["q", "k", "v"].map(|kind| if_present(qkv_bias, &format!("self_attn.{kind}_proj.bias")));
        let [q_bias, k_bias, v_bias] = biases;
        Ok(Self {
            attention_norm: weights.values(&name("input_layernorm.weight"))?,
            qkv: weights.stacked(&[&q, &k, &v])?,
            qkv_bias: [q_bias?, k_bias?, v_bias?].concat(),
            query_norm: if_present(head_norms, "self_attn.q_norm.weight")?,
            key_norm: if_present(head_norms, "self_attn.k_norm.weight")?,
            window,
            output: weights.stacked(&[&name("self_attn.o_proj.weight")])?,
            output_bias: if_present(output_bias, "self_attn.o_proj.bias")?,
            mlp_norm: weights.values(&name("post_attention_layernorm.weight"))?,
            gate_up: weights.gated(&name("mlp.gate_proj.weight"), &name("mlp.up_proj.weight"))?,
            down: weights.stacked(&[&name("mlp.down_proj.weight")])?,
        })
    }

    fn weight_bytes(&self) -> usize {
        let matrices = [&self.qkv, &self.output, &self.gate_up, &self.down];
        let norms = [&self.attention_norm, &self.query_norm, &self.key_norm, &self.mlp_norm];
        let vectors = norms.into_iter().chain([&self.qkv_bias, &self.output_bias]);
        matrices.map(PackedLinear::bytes).iter().sum::<usize>() + vectors.map(|of| size_of_val(&of[..])).sum::<usize>()
    }
}
