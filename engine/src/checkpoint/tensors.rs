//! The weights of a checkpoint: safetensors, in one file or in shards, or GGUF, checked against the configuration.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;

use super::gguf::{self, RowOrder};
use super::mapped::Mapped;
use super::rows::Rows;
use super::{CheckpointError, Dtype, ModelConfig};

/// Blocks that are decoded at a time when values are checked.
const CHECKED_BLOCKS: usize = 1024;

/// All weights of a checkpoint, by name.
#[derive(Debug)]
pub struct Tensors {
    files: Vec<(PathBuf, Mapped)>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Range<usize>,
    order: RowOrder,
}

/// One weight as stored.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// Sizes, outermost first; elements are in row-major order.
    pub shape: &'a [usize],
    /// How elements are stored.
    pub dtype: Dtype,
    /// Little-endian elements, or blocks of them as they stand in the file; rows consist of whole blocks. Owned where the file has the rows
    /// in another order (queries and keys of a GGUF of the Llama architecture), borrowed from the mapped file otherwise.
    pub bytes: Cow<'a, [u8]>,
}

impl TensorView<'_> {
    /// The elements as f32; exact for every supported type.
    pub fn to_f32(&self) -> Vec<f32> {
        self.dtype.to_f32(&self.bytes)
    }
}

/// A weight that is read row by row, and not kept in memory: for weights that are larger than the memory that is left.
#[derive(Clone, Copy)]
pub(crate) struct StoredMatrix<'a> {
    entry: &'a Entry,
    file: &'a Mapped,
}

impl<'a> StoredMatrix<'a> {
    /// How elements are stored.
    pub(crate) fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    /// Elements of a row.
    pub(crate) fn inputs(&self) -> usize {
        self.entry.shape.last().copied().unwrap_or(0)
    }

    /// Number of rows.
    pub(crate) fn outputs(&self) -> usize {
        self.entry.shape.first().copied().unwrap_or(0)
    }

    /// Its rows as they are stored, in the order of Hugging Face. Memory is given back behind them: see [`Rows`].
    pub(crate) fn rows(&self) -> Rows<'a> {
        let Entry { bytes, order, .. } = self.entry;
        Rows::new(self.file, bytes.clone(), bytes.len() / self.outputs().max(1), *order)
    }
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Tensors {
    /// Opens the weight files of a folder and checks that their headers fit their contents.
    pub(super) fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let index_path = folder.join("model.safetensors.index.json");
        let mut tensors = Self { files: Vec::new(), entries: BTreeMap::new() };
        if !index_path.exists() {
            tensors.add_file(folder.join("model.safetensors"))?;
            return Ok(tensors);
        }
        let bytes = fs::read(&index_path).map_err(CheckpointError::access(&index_path))?;
        let index: ShardIndex = serde_json::from_slice(&bytes).map_err(|e| CheckpointError::corrupt(&index_path, e))?;
        for shard in index.weight_map.values().collect::<BTreeSet<_>>() {
            check_shard_name(&index_path, shard)?;
            tensors.add_file(folder.join(shard))?;
        }
        match index.weight_map.iter().find(|(name, shard)| !tensors.is_in(name, shard)) {
            Some((name, shard)) => Err(CheckpointError::corrupt(
                &index_path,
                format!("it places tensor `{name}` in {shard}, which lacks it"),
            )),
            None => Ok(tensors),
        }
    }

    /// The weights of a GGUF file that is mapped already.
    pub(super) fn in_gguf(path: PathBuf, map: Mapped, tensors: Vec<gguf::Tensor>) -> Self {
        let entry =
            |gguf::Tensor { name, shape, dtype, bytes, order }| (name, Entry { file: 0, shape, dtype, bytes, order });
        Self { entries: tensors.into_iter().map(entry).collect(), files: vec![(path, map)] }
    }

    /// Names of all weights, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The weight of this name.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        self.entries.get(name).map(|entry| self.view(entry))
    }

    /// The matrix of this name, to be read row by row.
    pub(crate) fn matrix(&self, name: &str) -> Option<StoredMatrix<'_>> {
        let entry = self.entries.get(name)?;
        Some(StoredMatrix { entry, file: &self.files[entry.file].1 })
    }

    /// Checks names, shapes and values against a configuration.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<(), CheckpointError> {
        let mut expected: BTreeMap<_, _> = config.tensor_shapes().into_iter().collect();
        for (name, entry) in &self.entries {
            if !is_ignored(name, config) {
                self.check_entry(name, entry, expected.remove(name))?;
            }
        }
        match expected.pop_first() {
            Some((name, expected)) => {
                let path = self.files.first().map(|(path, _)| path.clone()).unwrap_or_default();
                Err(CheckpointError::MissingTensor { path, name, expected })
            }
            None => Ok(()),
        }
    }

    fn check_entry(&self, name: &str, entry: &Entry, expected: Option<Vec<usize>>) -> Result<(), CheckpointError> {
        let (path, name) = (self.files[entry.file].0.clone(), name.to_owned());
        let Some(expected) = expected else { return Err(CheckpointError::UnexpectedTensor { path, name }) };
        if entry.shape != expected {
            return Err(CheckpointError::WrongShape { path, name, found: entry.shape.clone(), expected });
        }
        match first_not_finite(&StoredMatrix { entry, file: &self.files[entry.file].1 }) {
            Some((index, value)) => Err(CheckpointError::NotFinite { path, name, index, value }),
            None => Ok(()),
        }
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> TensorView<'a> {
        let stored = &self.files[entry.file].1[entry.bytes.clone()];
        let bytes = match entry.order {
            RowOrder::Plain => Cow::Borrowed(stored),
            order @ RowOrder::Interleaved { .. } => Cow::Owned(order.to_plain(stored, entry.shape[0])),
        };
        TensorView { shape: &entry.shape, dtype: entry.dtype, bytes }
    }

    fn is_in(&self, name: &str, shard: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| self.files[entry.file].0.ends_with(shard))
    }

    fn add_file(&mut self, path: PathBuf) -> Result<(), CheckpointError> {
        let map = Mapped::open(&path).map_err(CheckpointError::access(&path))?;
        // `read_metadata` checks that sizes, offsets and the length of the file agree.
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| CheckpointError::corrupt(&path, e))?;
        let start = 8 + header;
        for (name, info) in metadata.tensors() {
            let Some(dtype) = supported(info.dtype) else {
                return Err(CheckpointError::Dtype { path, name, found: format!("{:?}", info.dtype) });
            };
            let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
            let entry =
                Entry { file: self.files.len(), shape: info.shape.clone(), dtype, bytes, order: RowOrder::Plain };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(CheckpointError::corrupt(&path, format!("tensor `{name}` is in another shard too")));
            }
        }
        self.files.push((path, map));
        Ok(())
    }
}

/// What transformers stores beside the weights: it follows from the configuration.
fn is_ignored(name: &str, config: &ModelConfig) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight")
}

fn supported(dtype: safetensors::Dtype) -> Option<Dtype> {
    match dtype {
        safetensors::Dtype::F32 => Some(Dtype::F32),
        safetensors::Dtype::BF16 => Some(Dtype::Bf16),
        safetensors::Dtype::F16 => Some(Dtype::F16),
        _ => None,
    }
}

/// An index may only name files beside it.
fn check_shard_name(index: &Path, shard: &str) -> Result<(), CheckpointError> {
    let plain = Path::new(shard).file_name().is_some_and(|name| name == shard);
    if plain && shard.ends_with(".safetensors") {
        return Ok(());
    }
    Err(CheckpointError::corrupt(index, format!("shard {shard:?} is not the name of a .safetensors file beside it")))
}

/// Decodes piece by piece: a weight may be larger than the memory that is left.
fn first_not_finite(matrix: &StoredMatrix<'_>) -> Option<(usize, f32)> {
    let Entry { bytes, dtype, order, .. } = matrix.entry;
    let pieces = match order {
        RowOrder::Plain => Rows::new(matrix.file, bytes.clone(), dtype.block_bytes() * CHECKED_BLOCKS, *order),
        RowOrder::Interleaved { .. } => matrix.rows(),
    };
    let values = pieces.flat_map(|piece| dtype.to_f32(piece));
    values.enumerate().find(|(_, value)| !value.is_finite())
}
