//! Checkpoints as folders that transformers and the engine load: from weights on disk to variables, and back.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use cllm_engine::differentiable::DifferentiableModel;
use cllm_engine::{Checkpoint, CheckpointError};
use indicatif::HumanBytes;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, View};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::storage;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[value(rename_all = "lower")]
pub enum StoredDtype {
    /// 32 bits.
    F32,
    /// 16 bits, the exponent range of f32.
    Bf16,
}

impl StoredDtype {
    /// Bytes in memory as much as those of a checkpoint as can be: 16 bits where no matrix has more (the engine keeps f16 as f32).
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let tensors = checkpoint.tensors();
        let mut matrices = tensors.names().filter_map(|name| tensors.get(name)).filter(|view| view.shape.len() > 1);
        let is_wide =
            |dtype| matches!(dtype, cllm_engine::checkpoint::Dtype::F32 | cllm_engine::checkpoint::Dtype::F16);
        if matrices.any(|view| is_wide(view.dtype)) { Self::F32 } else { Self::Bf16 }
    }

    fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Little-endian bytes of values, rounded to nearest even.
    fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect(),
        }
    }

    fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// The differentiable model of a checkpoint, in f32, on a device.
pub fn differentiable(checkpoint: &Checkpoint, device: cllm_engine::Device) -> Result<DifferentiableModel> {
    let device = device.open()?;
    let read = |name: &str| {
        let Some(view) = checkpoint.tensors().get(name) else { candle_core::bail!("the weight {name} is missing") };
        Tensor::from_vec(view.to_f32(), view.shape, &Device::Cpu)
    };
    Ok(DifferentiableModel::on_device(&device, checkpoint.config().into(), DType::F32, read)?)
}

/// The one token that ends a text when training: the first that the checkpoint names.
pub fn eos(checkpoint: &Checkpoint) -> Result<u32> {
    checkpoint.eos_token_ids().first().copied().ok_or_else(|| {
        Failure::BadInput(format!(
            "{} names no token that ends a text; add `eos_token_id` to its config.json",
            checkpoint.path().display()
        ))
    })
}

/// Writes a checkpoint whose tokenizer and configuration are those of `from`, and beside it what `more` writes into the folder. `output`
/// appears when it is complete.
pub fn write(
    output: &Path,
    from: &Checkpoint,
    model: &DifferentiableModel,
    dtype: StoredDtype,
    more: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    storage::write_folder(output, |folder| {
        from.write_description(folder, dtype.torch_name()).map_err(|error| match error {
            // it was read before: what fails now is the disk
            CheckpointError::Access { source, .. } => Failure::write(output)(source),
            other => Failure::engine(other),
        })?;
        more(folder)?;
        write_weights(&folder.join("model.safetensors"), &model.export()?, dtype)
    })
}

/// A JSON file, indented, with a line break at the end.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    storage::write_bytes(path, format!("{value:#}\n").as_bytes())
}

/// A safetensors file of weights.
pub fn write_weights(path: &Path, weights: &[(String, Tensor)], dtype: StoredDtype) -> Result<()> {
    let mut stored = Vec::with_capacity(weights.len());
    for (name, tensor) in weights {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        stored.push((name.clone(), Stored::new(dtype.safetensors(), tensor.dims().to_vec(), dtype.bytes(&values))));
    }
    // transformers refuses files that do not say which framework they are for
    write_safetensors(path, stored, "format", "pt".to_owned())
}

/// A safetensors file with one entry of metadata (several would come in a random order), whole or not at all.
pub fn write_safetensors(path: &Path, tensors: Vec<(String, Stored)>, key: &str, value: String) -> Result<()> {
    let metadata = HashMap::from([(key.to_owned(), value)]);
    let size: u64 = tensors.iter().map(|(_, stored)| stored.bytes.len() as u64).sum();
    storage::write_file(path, |temporary| {
        safetensors::serialize_to_file(tensors, Some(metadata), temporary).map_err(|error| disk_error(error, size))
    })
}

/// What the system said, and where room is missing, how much is needed.
fn disk_error(error: SafeTensorError, size: u64) -> Error {
    match error {
        SafeTensorError::IoError(error) => match error.kind() {
            kind @ (ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
                Error::new(kind, format!("{error}, and the file takes {}", HumanBytes(size)))
            }
            _ => error,
        },
        other => Error::other(other),
    }
}

/// A tensor as bytes.
#[derive(Clone, Debug)]
pub struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    /// `bytes` are the little-endian values of a tensor of this shape.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        Self { dtype, shape, bytes }
    }

    /// A row of 32-bit numbers.
    pub fn from_u32(values: &[u32]) -> Self {
        Self::new(Dtype::U32, vec![values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A row of f32.
    pub fn from_f32(values: &[f32]) -> Self {
        Self::new(Dtype::F32, vec![values.len()], StoredDtype::F32.bytes(values))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
