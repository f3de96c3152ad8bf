//! The CPU forward: packed weights that never change, scratch memory and caches beside them.
//!
//! A [`Model`] is shared by threads; each sequence has its [`KvCache`], each thread that computes its [`Workspace`].

mod cost;
mod forward;
mod hardware;
mod kv_cache;
mod workspace;

use thiserror::Error;

pub use cost::forward_cost;
pub use forward::{ForwardError, Logits};
pub use hardware::{ComputeOptions, HardwareDescription};
pub use kv_cache::KvCache;
pub use workspace::Workspace;

use crate::checkpoint::{Checkpoint, LayerDescription, ModelConfig};
use crate::kernels::{InstructionSet, PackedLinear, ThreadPool};

/// A model ready to compute. Immutable: share it between threads.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    eos_token_ids: Vec<u32>,
    instruction_set: InstructionSet,
    pool: ThreadPool,
    rope_frequencies: Vec<f32>,
    /// `[vocab, hidden]`; none where the output layer is the embedding.
    embedding: Option<Vec<f32>>,
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
        let read = |name: &str| match checkpoint.tensors().get(name) {
            Some(tensor) => Ok(tensor.to_f32()),
            None => Err(LoadError::MissingTensor(name.to_owned())),
        };
        let embedding = read("model.embed_tokens.weight")?;
        let (embedding, lm_head) = if config.tie_word_embeddings {
            (None, PackedLinear::stacked(&[&embedding], config.hidden_size))
        } else {
            (Some(embedding), PackedLinear::stacked(&[&read("lm_head.weight")?], config.hidden_size))
        };
        Ok(Self {
            eos_token_ids: checkpoint.eos_token_ids().to_vec(),
            instruction_set,
            pool: ThreadPool::new(options.threads())?,
            rope_frequencies: config.rope_frequencies(),
            embedding,
            layers: (0..config.num_hidden_layers).map(|i| Layer::load(&config, i, read)).collect::<Result<_, _>>()?,
            norm: read("model.norm.weight")?,
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
        }
    }

    /// Copies the embedding of a token into a row.
    fn embed(&self, token: u32, row: &mut [f32]) {
        let token = token as usize;
        match &self.embedding {
            Some(table) => row.copy_from_slice(&table[token * row.len()..(token + 1) * row.len()]),
            None => self.lm_head.copy_weights(token, row),
        }
    }
}

impl Layer {
    fn load(
        config: &ModelConfig,
        index: usize,
        read: impl Fn(&str) -> Result<Vec<f32>, LoadError>,
    ) -> Result<Self, LoadError> {
        let tensor = |name: &str| read(&format!("model.layers.{index}.{name}"));
        let if_present = |present: bool, name: &str| if present { tensor(name) } else { Ok(Vec::new()) };
        let read = |name: &str| tensor(&format!("{name}.weight"));
        let LayerDescription { qkv_bias, output_bias, head_norms, window } = config.layer(index);
        let hidden = config.hidden_size;
        let [q, k, v] = [read("self_attn.q_proj")?, read("self_attn.k_proj")?, read("self_attn.v_proj")?];
        let biases = ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"];
        let [q_bias, k_bias, v_bias] = biases.map(|name| if_present(qkv_bias, name));
        let attended = config.num_attention_heads * config.head_dim;
        Ok(Self {
            attention_norm: read("input_layernorm")?,
            qkv: PackedLinear::stacked(&[&q, &k, &v], hidden),
            qkv_bias: [q_bias?, k_bias?, v_bias?].concat(),
            query_norm: if_present(head_norms, "self_attn.q_norm.weight")?,
            key_norm: if_present(head_norms, "self_attn.k_norm.weight")?,
            window,
            output: PackedLinear::stacked(&[&read("self_attn.o_proj")?], attended),
            output_bias: if_present(output_bias, "self_attn.o_proj.bias")?,
            mlp_norm: read("post_attention_layernorm")?,
            gate_up: PackedLinear::gated(&read("mlp.gate_proj")?, &read("mlp.up_proj")?, hidden),
            down: PackedLinear::stacked(&[&read("mlp.down_proj")?], config.intermediate_size),
        })
    }
}
