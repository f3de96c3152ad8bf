//! A loaded model, whatever computes it: packed weights and our own kernels on the processor ([`packed`]), or candle tensors on a GPU
//! ([`tensors`]). Caches, batches and decoding are the same for both.
//!
//! A [`Model`] is shared by threads; each sequence has its [`KvCache`], each thread that computes its [`Workspace`].

mod cost;
mod forward;
mod hardware;
mod kv_cache;
mod kv_pool;
mod memory;
mod packed;
mod page;
mod tensors;
mod workspace;

use std::sync::Arc;

use thiserror::Error;

pub use cost::{COST_CONTEXT, forward_cost, forward_cost_within};
pub use forward::{BatchLogits, ForwardError, Logits, Segment};
pub use hardware::{ComputeOptions, HardwareDescription};
pub use kv_cache::KvCache;
pub use kv_pool::{KvMemoryFull, KvPool};
pub use memory::available_memory;
pub(crate) use page::{PAGE, Page};
pub use tensors::{TensorDtype, TensorFailure, TensorOptions};
pub use workspace::Workspace;

use crate::checkpoint::{Checkpoint, ModelConfig};
use crate::device::DeviceError;
use crate::kernels::{InstructionSet, Storage};
use packed::PackedModel;
use page::Place;
use tensors::TensorModel;

/// A model ready to compute. Immutable: share it between threads.
#[derive(Debug)]
pub struct Model {
    config: Arc<ModelConfig>,
    eos_token_ids: Vec<u32>,
    /// Of the kernels, and of what is computed on the processor whatever computes the forwards: sampling.
    instruction_set: InstructionSet,
    computer: Computer,
}

/// What computes the forwards.
#[derive(Debug)]
enum Computer {
    Packed(PackedModel),
    Tensors(TensorModel),
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
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device failed while the weights were put there.
    #[error(transparent)]
    Tensors(#[from] TensorFailure),
    /// A number type that candle does not multiply on the processor.
    #[error("the processor computes no tensors of {0}; choose F32 or F16, or a GPU")]
    TensorDtype(TensorDtype),
    /// The system refused to start a thread.
    #[error("cannot start the compute threads: {0}. Ask for fewer threads or raise the limit on processes")]
    Threads(#[from] std::io::Error),
}

impl Model {
    /// Packs the weights of a checkpoint and starts the compute threads, or puts the weights on the device that `options` names.
    pub fn load(checkpoint: &Checkpoint, options: ComputeOptions) -> Result<Self, LoadError> {
        let instruction_set = options.instruction_set.unwrap_or_else(InstructionSet::detect);
        if !instruction_set.is_available() {
            return Err(LoadError::InstructionSet(instruction_set));
        }
        let config = Arc::new(checkpoint.config().clone());
        let computer = match options.tensors {
            Some(tensors) => Computer::Tensors(TensorModel::load(checkpoint, tensors)?),
            None => Computer::Packed(PackedModel::load(checkpoint, Arc::clone(&config), instruction_set, options)?),
        };
        Ok(Self { eos_token_ids: checkpoint.eos_token_ids().to_vec(), instruction_set, config, computer })
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
        match &self.computer {
            Computer::Packed(model) => HardwareDescription {
                processor: hardware::processor_name(),
                threads: model.threads(),
                instruction_set: self.instruction_set.name(),
                storage: model.storages().into_iter().map(Storage::name).collect::<Vec<_>>().join("+"),
            },
            Computer::Tensors(model) => model.hardware(),
        }
    }

    /// The vector instructions of its kernels, and of sampling.
    pub(crate) fn instruction_set(&self) -> InstructionSet {
        self.instruction_set
    }

    /// How its linear layers are stored, the widest first; several where the checkpoint mixes them. None where they are tensors.
    pub fn storages(&self) -> Vec<Storage> {
        match &self.computer {
            Computer::Packed(model) => model.storages(),
            Computer::Tensors(_) => Vec::new(),
        }
    }

    /// Whether the numbers of a row never depend on the rows beside it: then all strategies give the same tokens. On a device products of
    /// other shapes round differently, and texts may part at near-ties.
    pub fn is_exact(&self) -> bool {
        matches!(self.computer, Computer::Packed(_))
    }

    /// Bytes of memory that its weights take for as long as it lives, where it computes.
    pub fn weight_bytes(&self) -> u64 {
        match &self.computer {
            Computer::Packed(model) => model.weight_bytes(),
            Computer::Tensors(model) => model.weight_bytes(),
        }
    }

    /// Bytes of memory that the weights of a checkpoint will take on the processor, in the storage that they have; nothing is loaded.
    pub fn expected_weight_bytes(checkpoint: &Checkpoint) -> u64 {
        PackedModel::expected_weight_bytes(checkpoint)
    }

    /// Bytes that are free where its keys and values are kept. None where nobody says.
    pub fn free_memory(&self) -> Option<u64> {
        match &self.computer {
            Computer::Packed(_) => available_memory(),
            Computer::Tensors(model) => model.free_memory(),
        }
    }

    /// Where its keys and values are kept.
    fn place(&self) -> Place {
        match &self.computer {
            Computer::Packed(_) => Place::Host,
            Computer::Tensors(model) => model.place(),
        }
    }
}
