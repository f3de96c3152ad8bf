//! Memory for keys and values, in pages of a fixed number of positions with a bound on their number. Caches of many sequences take pages
//! from one pool as they grow, share those of equal beginnings, and give them back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::Model;
use crate::kernels::{KEY_BLOCK, VALUE_ALIGNMENT};

/// Positions of a page.
pub(crate) const PAGE: usize = KEY_BLOCK;

/// No page is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the KV memory of {positions} positions has no room left")]
pub struct KvMemoryFull {
    /// Positions that the pool has room for.
    pub positions: usize,
}

/// Bounded memory for keys and values of one model. Clones are the same pool.
#[derive(Clone, Debug)]
pub struct KvPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shape: PageShape,
    /// Pages that may exist.
    limit: usize,
    used: AtomicUsize,
    /// Memory of pages that were given back.
    free: Mutex<Vec<Vec<f32>>>,
}

/// How a page is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PageShape {
    layers: usize,
    heads: usize,
    head_dim: usize,
    /// `head_dim` padded to whole vectors.
    value_stride: usize,
}

impl PageShape {
    /// Of one head of one layer.
    fn key_block(self) -> usize {
        self.head_dim * PAGE
    }

    /// Of one head of one layer.
    fn value_block(self) -> usize {
        self.value_stride * PAGE
    }

    fn length(self) -> usize {
        self.layers * self.heads * (self.key_block() + self.value_block())
    }
}

impl KvPool {
    /// Room for so many positions of `model` in all, rounded up to whole pages.
    pub fn new(model: &Model, positions: usize) -> Self {
        Self::with_limit(model, positions.div_ceil(PAGE))
    }

    /// As much room as is asked for.
    pub fn unbounded(model: &Model) -> Self {
        Self::with_limit(model, usize::MAX)
    }

    fn with_limit(model: &Model, limit: usize) -> Self {
        let config = model.config();
        let shape = PageShape {
            layers: config.num_hidden_layers,
            heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            value_stride: config.head_dim.next_multiple_of(VALUE_ALIGNMENT),
        };
        let shared = Shared { shape, limit, used: AtomicUsize::new(0), free: Mutex::new(Vec::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// Positions of a page.
    pub const PAGE: usize = PAGE;

    /// Bytes of a page of `model`.
    pub fn page_bytes_of(model: &Model) -> usize {
        Self::unbounded(model).page_bytes()
    }

    /// Pages that are in use.
    pub fn used_pages(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Pages that may be in use at once.
    pub fn pages(&self) -> usize {
        self.shared.limit
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.shared.shape.length() * size_of::<f32>()
    }

    /// What is said when no page is left.
    pub(crate) fn full(&self) -> KvMemoryFull {
        KvMemoryFull { positions: self.shared.limit.saturating_mul(PAGE) }
    }

    /// A page with anything in it.
    pub(super) fn take(&self) -> Result<Page, KvMemoryFull> {
        let Shared { shape, limit, used, free } = &*self.shared;
        let more = |used: usize| (used < *limit).then_some(used + 1);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(self.full());
        }
        let recycled = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let data = recycled.unwrap_or_else(|| vec![0.0; shape.length()]);
        Ok(Page { data, pool: Self { shared: Arc::clone(&self.shared) } })
    }
}

/// Keys and values of [`PAGE`] positions in every layer: keys `[layers, heads, head_dim, PAGE]`, then values
/// `[layers, heads, PAGE, value_stride]`.
#[derive(Debug)]
pub(crate) struct Page {
    data: Vec<f32>,
    pool: KvPool,
}

impl Page {
    /// Writes keys and values `[heads, head_dim]` of one of its positions.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let shape = self.pool.shared.shape;
        let heads = keys.chunks_exact(shape.head_dim).zip(values.chunks_exact(shape.head_dim));
        for (head, (keys, values)) in heads.enumerate() {
            let start = self.keys_start(layer, head) + position;
            for (slot, key) in self.data[start..].iter_mut().step_by(PAGE).zip(keys) {
                *slot = *key;
            }
            let start = self.values_start(layer, head) + position * shape.value_stride;
            self.data[start..start + shape.head_dim].copy_from_slice(values);
        }
    }

    /// Keys `[head_dim, PAGE]` and values `[PAGE, value_stride]` of one head of one layer.
    pub(super) fn block(&self, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let shape = self.pool.shared.shape;
        let (keys, values) = (self.keys_start(layer, head), self.values_start(layer, head));
        (&self.data[keys..keys + shape.key_block()], &self.data[values..values + shape.value_block()])
    }

    pub(super) fn copy_from(&mut self, other: &Self) {
        self.data.copy_from_slice(&other.data);
    }

    fn keys_start(&self, layer: usize, head: usize) -> usize {
        let shape = self.pool.shared.shape;
        (layer * shape.heads + head) * shape.key_block()
    }

    fn values_start(&self, layer: usize, head: usize) -> usize {
        let shape = self.pool.shared.shape;
        shape.layers * shape.heads * shape.key_block() + (layer * shape.heads + head) * shape.value_block()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let Shared { used, free, .. } = &*self.pool.shared;
        free.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.data));
        used.fetch_sub(1, Ordering::Relaxed);
    }
}
