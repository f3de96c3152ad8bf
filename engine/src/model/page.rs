//! Keys and values of a fixed number of positions in every layer: the unit in which memory for them is taken, shared and given back.

use candle_core::{DType, Result, Tensor};

use super::KvPool;
use crate::checkpoint::ModelConfig;
use crate::kernels::{KEY_BLOCK, VALUE_ALIGNMENT};

/// Positions of a page.
pub(crate) const PAGE: usize = KEY_BLOCK;

/// Where pages are kept.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In memory, laid out as the kernels read it, f32.
    Host,
    /// In tensors of such a device and type.
    Tensors { device: candle_core::Device, dtype: DType },
}

/// How a page is laid out.
#[derive(Clone, Debug)]
pub(super) struct PageShape {
    layers: usize,
    heads: usize,
    head_dim: usize,
    /// `head_dim`, on the host padded to whole vectors.
    value_stride: usize,
    place: Place,
}

impl PageShape {
    pub(super) fn new(config: &ModelConfig, place: Place) -> Self {
        let value_stride = match place {
            Place::Host => config.head_dim.next_multiple_of(VALUE_ALIGNMENT),
            Place::Tensors { .. } => config.head_dim,
        };
        let (layers, heads) = (config.num_hidden_layers, config.num_key_value_heads);
        Self { layers, heads, head_dim: config.head_dim, value_stride, place }
    }

    /// Bytes of a page.
    pub(super) fn bytes(&self) -> usize {
        let value = match self.place {
            Place::Host => size_of::<f32>(),
            Place::Tensors { dtype, .. } => dtype.size_in_bytes(),
        };
        self.length() * value
    }

    /// Memory for a page, of any values that are numbers.
    pub(super) fn memory(&self) -> Result<PageMemory> {
        match &self.place {
            Place::Host => Ok(PageMemory::Host(vec![0.0; self.length()])),
            Place::Tensors { device, dtype } => {
                Tensor::zeros((2 * self.layers, self.heads, PAGE, self.head_dim), *dtype, device)
                    .map(PageMemory::Tensor)
            }
        }
    }

    /// Of one head of one layer.
    fn key_block(&self) -> usize {
        self.head_dim * PAGE
    }

    /// Of one head of one layer.
    fn value_block(&self) -> usize {
        self.value_stride * PAGE
    }

    /// Where keys and values of one head of one layer begin, on the host.
    fn starts(&self, layer: usize, head: usize) -> (usize, usize) {
        let (block, all) = (layer * self.heads + head, self.layers * self.heads);
        (block * self.key_block(), all * self.key_block() + block * self.value_block())
    }

    fn length(&self) -> usize {
        self.layers * self.heads * (self.key_block() + self.value_block())
    }
}

/// The memory of a page.
#[derive(Debug)]
pub(super) enum PageMemory {
    /// Keys `[layers, heads, head_dim, PAGE]`, then values `[layers, heads, PAGE, value_stride]`.
    Host(Vec<f32>),
    /// `[2 * layers, heads, PAGE, head_dim]`: keys of the first layer, its values, keys of the next.
    Tensor(Tensor),
}

/// Keys and values of [`PAGE`] positions. Its memory goes back to its pool.
#[derive(Debug)]
pub(crate) struct Page {
    memory: PageMemory,
    pool: KvPool,
}

impl Page {
    pub(super) fn new(memory: PageMemory, pool: KvPool) -> Self {
        Self { memory, pool }
    }

    /// Writes keys and values `[heads, head_dim]` of one of its positions, on the host.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let Self { memory, pool } = self;
        let shape = pool.shape();
        let (keys_start, values_start) = shape.starts(layer, 0);
        let PageMemory::Host(data) = memory else { unreachable!("a page of tensors") };
        let heads = keys.chunks_exact(shape.head_dim).zip(values.chunks_exact(shape.head_dim));
        for (head, (keys, values)) in heads.enumerate() {
            let start = keys_start + head * shape.key_block() + position;
            for (slot, key) in data[start..].iter_mut().step_by(PAGE).zip(keys) {
                *slot = *key;
            }
            let start = values_start + head * shape.value_block() + position * shape.value_stride;
            data[start..start + shape.head_dim].copy_from_slice(values);
        }
    }

    /// Keys `[head_dim, PAGE]` and values `[PAGE, value_stride]` of one head of one layer, on the host.
    pub(super) fn block(&self, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let shape = self.pool.shape();
        let (keys, values) = shape.starts(layer, head);
        let PageMemory::Host(data) = &self.memory else { unreachable!("a page of tensors") };
        (&data[keys..keys + shape.key_block()], &data[values..values + shape.value_block()])
    }

    /// Keys and values `[heads, PAGE, head_dim]` of one layer, in tensors, to read or to `slice_set`.
    pub(super) fn tensors(&self, layer: usize) -> Result<[Tensor; 2]> {
        let PageMemory::Tensor(tensor) = &self.memory else { unreachable!("a page on the host") };
        Ok([tensor.get(2 * layer)?, tensor.get(2 * layer + 1)?])
    }

    /// Takes over what another page of the same pool holds.
    pub(super) fn copy_from(&mut self, other: &Self) -> Result<()> {
        match (&mut self.memory, &other.memory) {
            (PageMemory::Host(data), PageMemory::Host(other)) => data.copy_from_slice(other),
            (PageMemory::Tensor(tensor), PageMemory::Tensor(other)) => tensor.slice_set(other, 0, 0)?,
            _ => unreachable!("pages of two pools"),
        }
        Ok(())
    }

    /// Writes something everywhere on the host, where memory that was never written is no memory yet.
    pub(super) fn fill(&mut self) {
        if let PageMemory::Host(data) = &mut self.memory {
            data.fill(0.5);
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::replace(&mut self.memory, PageMemory::Host(Vec::new())));
    }
}
