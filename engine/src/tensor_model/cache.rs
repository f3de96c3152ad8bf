//! Keys and values of one sequence on the device: room for all positions from the start, written in place.

use candle_core::{Result, Tensor};

use super::{TensorModel, TensorModelError};

/// The KV cache of one sequence, only for the model that it was made for.
#[derive(Debug)]
pub struct TensorCache {
    len: usize,
    capacity: usize,
    /// Keys, rotated, and values of each layer: `[kv_heads, capacity, head_dim]`. What lies beyond `len` means nothing.
    layers: Vec<[Tensor; 2]>,
}

impl TensorCache {
    /// Room for `capacity` positions, at most the context of the model.
    pub fn new(model: &TensorModel, capacity: usize) -> std::result::Result<Self, TensorModelError> {
        let config = model.config();
        let capacity = capacity.min(config.max_position_embeddings);
        // a tensor of no values is none
        let shape = (config.num_key_value_heads, capacity.max(1), config.head_dim);
        let zeros = || Tensor::zeros(shape, model.dtype.of_tensors(), &model.device);
        let layers = (0..config.num_hidden_layers).map(|_| Ok([zeros()?, zeros()?])).collect::<Result<_>>();
        Ok(Self { len: 0, capacity, layers: layers.map_err(model.failed("making room for a sequence"))? })
    }

    /// Number of positions that are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of positions for which there is room.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all positions from `len` on; the next forward continues there. Longer than it is: nothing changes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Marks the positions written as there.
    pub(super) fn advance(&mut self, positions: usize) {
        self.len += positions;
    }

    /// Writes keys and values `[rows, kv_heads, head_dim]` of a layer to the positions after those that are there.
    pub(super) fn write(&self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        for (kept, new) in self.layers[layer].iter().zip([keys, values]) {
            kept.slice_set(&new.transpose(0, 1)?.contiguous()?, 1, self.len)?;
        }
        Ok(())
    }

    /// Keys and values `[kv_heads, count, head_dim]` of a layer from position `start` on, without a copy.
    pub(super) fn read(&self, layer: usize, start: usize, count: usize) -> Result<[Tensor; 2]> {
        let [keys, values] = &self.layers[layer];
        Ok([keys.narrow(1, start, count)?, values.narrow(1, start, count)?])
    }
}
