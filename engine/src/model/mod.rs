//! The CPU forward: packed weights that never change, scratch memory and caches beside them.
//!
//! A [`Model`] is shared by threads; each sequence has its [`KvCache`], each thread that computes its [`Workspace`].

mod cost;
mod forward;
mod hardware;
mod kv_cache;
mod kv_pool;
mod memory;
mod weights;
mod workspace;

use thiserror::Error;

pub(crate) use cost::CONTEXT;
pub use cost::{forward_cost, forward_cost_within};
pub use forward::{BatchLogits, ForwardError, Logits, Segment};
pub use hardware::{ComputeOptions, HardwareDescription};
pub use kv_cache::KvCache;
pub use kv_pool::{KvMemoryFull, KvPool};
pub(crate) use kv_pool::{PAGE, Page};
pub use memory::available_memory;
pub use workspace::Workspace;

use crate::checkpoint::{Checkpoint, LayerDescription, ModelConfig};
use crate::kernels::{InstructionSet, PackedLinear, Storage, ThreadPool};
use weights::Weights;

/// A model ready to compute. Immutable: share it between threads.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    eos_token_ids: Vec<u32>,
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

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The instruction set was asked for explicitly.
    #[error("this processor does not support {0}; leave the instruction set open to use the best that it has")]
    InstructionSet(InstructionSet),
    /// The checkpoint lacks a weight. `Checkpoint::open` refuses such checkpoints.
    #[error("the checkpoint has no tensor `{0}`")]
    MissingTensor(String),
    /// A quantised storage was asked for that does not fit the shape of the model.
    #[error(
        "tensor `{name}` has rows of {inputs} weights, but {storage} stores blocks of {block}; choose bf16 or f32, or leave the storage as the checkpoint has it"
    )]
    Storage {
        /// The tensor.
        name: String,
        /// Length of its rows.
        inputs: usize,
        /// What was asked for.
        storage: Storage,
        /// Length of its blocks.
        block: usize,
    },
    /// It would be ended by the system, or the machine would come to a halt.
    #[error(
        "the weights take {needed_mib} MiB in memory, but only {available_mib} MiB are available; give it more memory, or a checkpoint or a storage with fewer bits a weight"
    )]
    Memory {
        /// What the packed weights take.
        needed_mib: u64,
        /// What this process may still take.
        available_mib: u64,
    },
    /// The system refused to start a thread.
    #[error("cannot start the compute threads: {0}. Ask for fewer threads or raise the limit on processes")]
    Threads(#[from] std::io::Error),
}

impl Model {
    /// Packs the weights of a checkpoint and starts the compute threads.
    pub fn load(checkpoint: &Checkpoint, options: ComputeOptions) -> Result<Self, LoadError> {
        let instruction_set = options.instruction_set.unwrap_or_else(InstructionSet::detect);
        if !instruction_set.is_available() {
            return Err(LoadError::InstructionSet(instruction_set));
        }
        let config = checkpoint.config().clone();
        let weights = Weights::new(checkpoint, options.storage);
        memory::check(weights.packed_bytes(), available_memory())?;
        let embedding = weights.stacked(&["model.embed_tokens.weight"])?;
        let (embedding, lm_head) = if config.tie_word_embeddings {
            (None, embedding)
        } else {
            (Some(embedding), weights.stacked(&["lm_head.weight"])?)
        };
        Ok(Self {
            eos_token_ids: checkpoint.eos_token_ids().to_vec(),
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

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Tokens that end a text.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// What it computes on.
    pub fn hardware(&self) -> HardwareDescription {
        HardwareDescription {
            cpu: hardware::processor_name(),
            threads: self.pool.threads(),
            instruction_set: self.instruction_set.name(),
            storage: self.storages().into_iter().map(Storage::name).collect::<Vec<_>>().join("+"),
        }
    }

    /// The vector instructions of its kernels.
    pub(crate) fn instruction_set(&self) -> InstructionSet {
        self.instruction_set
    }

    /// How its linear layers are stored, the widest first; several where the checkpoint mixes them.
    pub fn storages(&self) -> Vec<Storage> {
        let layers = self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]);
        let mut storages: Vec<_> = layers.chain([&self.lm_head]).map(PackedLinear::storage).collect();
        storages.sort_unstable_by(|a, b| b.cmp(a));
        storages.dedup();
        storages
    }

    /// Bytes of memory that its packed weights take for as long as it lives.
    pub fn weight_bytes(&self) -> u64 {
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
