//! Keys and values of the positions of one sequence. Rows are written in place; forgetting positions is setting a length.

use std::ops::Range;

use super::Model;
use crate::kernels::{KEY_BLOCK, VALUE_ALIGNMENT, add_rope_angles};

/// Keys and values of one sequence, for every layer, in the layout that the attention kernel reads.
#[derive(Clone, Debug)]
pub struct KvCache {
    len: usize,
    capacity: usize,
    head_dim: usize,
    /// `head_dim` padded to whole vectors.
    value_stride: usize,
    heads: usize,
    /// `[layers, heads, padded capacity / KEY_BLOCK, head_dim, KEY_BLOCK]`
    keys: Vec<f32>,
    /// `[layers, heads, padded capacity, value_stride]`
    values: Vec<f32>,
    /// Rotations of the positions reached so far, `[positions, head_dim]`.
    angles: Vec<f32>,
}

/// Where keys and values of one layer lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerCache<'a> {
    /// `[heads, padded capacity / KEY_BLOCK, head_dim, KEY_BLOCK]`
    pub(super) keys: &'a [f32],
    /// `[heads, padded capacity, value_stride]`
    pub(super) values: &'a [f32],
}

impl KvCache {
    /// Room for `capacity` positions, at most the context of the model.
    pub fn new(model: &Model, capacity: usize) -> Self {
        let config = model.config();
        let capacity = capacity.min(config.max_position_embeddings);
        let padded = capacity.next_multiple_of(KEY_BLOCK);
        let (heads, head_dim) = (config.num_key_value_heads, config.head_dim);
        let value_stride = head_dim.next_multiple_of(VALUE_ALIGNMENT);
        let rows = config.num_hidden_layers * heads * padded;
        Self {
            len: 0,
            capacity,
            head_dim,
            value_stride,
            heads,
            keys: vec![0.0; rows * head_dim],
            values: vec![0.0; rows * value_stride],
            angles: Vec::new(),
        }
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

    /// Writes keys and values `[heads, head_dim]` of one position, which need not be within `len` yet.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let padded = self.padded();
        let (block, lane) = (position / KEY_BLOCK, position % KEY_BLOCK);
        for head in 0..self.heads {
            let row = head * self.head_dim..(head + 1) * self.head_dim;
            let start = ((layer * self.heads + head) * padded + block * KEY_BLOCK) * self.head_dim + lane;
            for (slot, key) in self.keys[start..].iter_mut().step_by(KEY_BLOCK).zip(&keys[row.clone()]) {
                *slot = *key;
            }
            let start = ((layer * self.heads + head) * padded + position) * self.value_stride;
            self.values[start..start + self.head_dim].copy_from_slice(&values[row]);
        }
    }

    /// Keys and values of one layer, all positions.
    pub(super) fn layer(&self, layer: usize) -> LayerCache<'_> {
        let rows = self.heads * self.padded();
        let (first, last) = (layer * rows, (layer + 1) * rows);
        LayerCache {
            keys: &self.keys[first * self.head_dim..last * self.head_dim],
            values: &self.values[first * self.value_stride..last * self.value_stride],
        }
    }

    /// Makes sure that the rotations of the next `positions` are known.
    pub(super) fn rotate(&mut self, positions: usize, frequencies: &[f32]) {
        for position in self.angles.len() / self.head_dim..self.len + positions {
            add_rope_angles(position, frequencies, &mut self.angles);
        }
    }

    /// Rotations of some positions, `[positions, head_dim]`, once [`KvCache::rotate`] has made it known.
    pub(super) fn angles(&self, positions: Range<usize>) -> &[f32] {
        &self.angles[positions.start * self.head_dim..positions.end * self.head_dim]
    }

    fn padded(&self) -> usize {
        self.capacity.next_multiple_of(KEY_BLOCK)
    }
}
