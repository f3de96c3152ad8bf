//! From the tensors of a checkpoint to packed layers.

use std::borrow::Cow;

use crate::checkpoint::{Checkpoint, Dtype, StoredMatrix};
use crate::kernels::{PackedLinear, Storage};
use crate::model::LoadError;

/// Reads the tensors of a checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    /// How linear layers are stored; none: each as the checkpoint stores it.
    storage: Option<Storage>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, storage: Option<Storage>) -> Self {
        Self { checkpoint, storage }
    }

    /// Bytes that all layers take once they are packed, but for the padding of panels.
    pub(super) fn packed_bytes(self) -> u64 {
        let shapes = self.checkpoint.config().tensor_shapes();
        let sizes = shapes.into_iter().map(|(name, shape)| {
            let values: u64 = shape.iter().map(|&size| size as u64).product();
            let stored = self.checkpoint.tensors().matrix(&name).filter(|_| shape.len() > 1);
            let storage = stored.map_or(Storage::F32, |of| self.storage.unwrap_or(storage_of(of.dtype())));
            values / storage.block_len() as u64 * storage.block_bytes() as u64
        });
        sizes.sum()
    }

    /// All values of a tensor.
    pub(super) fn values(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        let tensor = self.checkpoint.tensors().get(name);
        tensor.map(|tensor| tensor.to_f32()).ok_or_else(|| LoadError::MissingTensor(name.to_owned()))
    }

    /// A layer of matrices that read the same input, one below the other.
    pub(super) fn stacked(&self, names: &[&str]) -> Result<PackedLinear, LoadError> {
        let matrices = names.iter().map(|name| self.matrix(name)).collect::<Result<Vec<_>, _>>()?;
        let storage = self.storage(names, &matrices)?;
        let rows = matrices.iter().flat_map(|matrix| rows(matrix, storage));
        let outputs = matrices.iter().map(StoredMatrix::outputs).sum();
        Ok(PackedLinear::stacked(storage, inputs(&matrices), outputs, rows))
    }

    /// The first layer of a feed-forward network: gate and up.
    pub(super) fn gated(&self, gate: &str, up: &str) -> Result<PackedLinear, LoadError> {
        let matrices = [self.matrix(gate)?, self.matrix(up)?];
        let storage = self.storage(&[gate, up], &matrices)?;
        let [gate, up] = matrices.each_ref().map(|matrix| rows(matrix, storage));
        Ok(PackedLinear::gated(storage, inputs(&matrices), matrices[0].outputs(), gate, up))
    }

    fn matrix(&self, name: &str) -> Result<StoredMatrix<'a>, LoadError> {
        self.checkpoint.tensors().matrix(name).ok_or_else(|| LoadError::MissingTensor(name.to_owned()))
    }

    /// Matrices of one layer share a storage: where the checkpoint gives them different ones, the widest of them.
    fn storage(&self, names: &[&str], matrices: &[StoredMatrix<'_>]) -> Result<Storage, LoadError> {
        let widest = matrices.iter().map(|matrix| storage_of(matrix.dtype())).max().unwrap_or(Storage::F32);
        let storage = self.storage.unwrap_or(widest);
        let inputs = inputs(matrices);
        if inputs.is_multiple_of(storage.block_len()) {
            Ok(storage)
        } else {
            let name = names.first().copied().unwrap_or_default().to_owned();
            Err(LoadError::Storage { name, inputs, storage, block: storage.block_len() })
        }
    }
}

/// The storage that keeps what the checkpoint stores, or comes closest to it: other quantised types are stored anew with eight bits.
fn storage_of(dtype: Dtype) -> Storage {
    same_bytes(dtype).unwrap_or(if dtype == Dtype::F16 { Storage::F32 } else { Storage::Q8_0 })
}

/// The storage that writes the same bytes, if there is one.
fn same_bytes(dtype: Dtype) -> Option<Storage> {
    match dtype {
        Dtype::F32 => Some(Storage::F32),
        Dtype::Bf16 => Some(Storage::Bf16),
        Dtype::Q8_0 => Some(Storage::Q8_0),
        Dtype::Q4_0 => Some(Storage::Q4_0),
        Dtype::Q4_1 => Some(Storage::Q4_1),
        Dtype::F16 | Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Q2K | Dtype::Q3K | Dtype::Q4K | Dtype::Q5K | Dtype::Q6K => None,
    }
}

fn inputs(matrices: &[StoredMatrix<'_>]) -> usize {
    matrices.first().map_or(0, StoredMatrix::inputs)
}

/// The rows of a matrix as `storage` writes them.
fn rows<'a>(matrix: &StoredMatrix<'a>, storage: Storage) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a> {
    let dtype = matrix.dtype();
    let is_stored_so = same_bytes(dtype) == Some(storage);
    matrix.rows().map(move |bytes| {
        if is_stored_so { Cow::Borrowed(bytes) } else { Cow::Owned(storage.encode(&dtype.to_f32(bytes))) }
    })
}

#[cfg(test)]
mod tests {
    use super::Weights;
    use crate::checkpoint::Checkpoint;
    use crate::kernels::Storage;
    use crate::model::{ComputeOptions, Model};
    use crate::random::random_checkpoint;

    #[test]
    fn the_estimate_is_what_the_packed_model_takes_but_for_padding() {
        let folder = tempfile::tempdir().unwrap();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/llama-bias/config.json");
        let text = std::fs::read_to_string(path).unwrap();
        let config = crate::ModelConfig {
            hidden_size: 256,
            intermediate_size: 512,
            head_dim: 64,
            ..crate::ModelConfig::from_json(&text).unwrap()
        };
        random_checkpoint(folder.path(), &config, 1).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        for storage in Storage::ALL {
            let estimate = Weights::new(&checkpoint, Some(storage)).packed_bytes() as f64;
            let options = ComputeOptions { storage: Some(storage), ..ComputeOptions::default() };
            let packed = Model::load(&checkpoint, options).unwrap().weight_bytes() as f64;
            assert!((0.9..=1.0).contains(&(estimate / packed)), "{storage}: {estimate} of {packed}");
        }
    }
}
