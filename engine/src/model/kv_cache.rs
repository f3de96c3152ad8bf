//! Keys and values of the positions of one sequence. Rows are written in place; forgetting positions is setting a length.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result as TensorResult, Tensor};

use super::page::{PAGE, Page};
use super::{ForwardError, KvPool, Model, TensorFailure};

/// Keys and values of one sequence, for every layer: a table of pages. Pages may be shared with other sequences; one that is written to is
/// copied before.
#[derive(Clone, Debug)]
pub struct KvCache {
    pool: KvPool,
    len: usize,
    capacity: usize,
    pages: Vec<Arc<Page>>,
}

impl KvCache {
    /// Room for `capacity` positions, at most the context of the model, in memory of its own.
    pub fn new(model: &Model, capacity: usize) -> Self {
        Self::within(&KvPool::unbounded(model), model, capacity)
    }

    /// [`KvCache::new`] with memory from a pool of the same model, taken as the cache grows.
    pub fn within(pool: &KvPool, model: &Model, capacity: usize) -> Self {
        let capacity = capacity.min(model.config().max_position_embeddings);
        Self { pool: pool.clone(), len: 0, capacity, pages: Vec::with_capacity(capacity.div_ceil(PAGE)) }
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

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        self.len = 0;
        self.pages.clear();
    }

    /// Makes sure that the next `positions` can be written. A forward does so itself; whoever shares a pool asks before, since without room
    /// nothing is changed but the pages that were found.
    pub fn reserve(&mut self, positions: usize) -> Result<(), ForwardError> {
        let end = self.len + positions;
        if end > self.capacity {
            return Err(ForwardError::CacheFull { rows: positions, len: self.len, capacity: self.capacity });
        }
        for index in self.len / PAGE..end.div_ceil(PAGE) {
            match self.pages.get_mut(index) {
                None => self.pages.push(Arc::new(self.pool.take()?)),
                Some(page) if Arc::strong_count(page) > 1 => {
                    let mut copy = self.pool.take()?;
                    copy.copy_from(page).map_err(|error| TensorFailure::new("copying keys and values", &error))?;
                    *page = Arc::new(copy);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Takes over the pages of a text with the same first `len` tokens. Only for an empty cache.
    pub(crate) fn adopt(&mut self, pages: Vec<Arc<Page>>, len: usize) {
        debug_assert!(self.is_empty() && len <= pages.len() * PAGE && len <= self.capacity);
        (self.pages, self.len) = (pages, len);
    }

    /// The pages of its positions, in their order.
    pub(crate) fn pages(&self) -> &[Arc<Page>] {
        &self.pages[..self.len.div_ceil(PAGE)]
    }

    /// Pages that it holds, whether or not others share them.
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Adds so many positions with anything in them and in those before. For an empty cache.
    pub(super) fn fill(&mut self, positions: usize) -> Result<(), ForwardError> {
        self.reserve(positions)?;
        self.pages.iter_mut().filter_map(Arc::get_mut).for_each(Page::fill);
        self.advance(positions);
        Ok(())
    }

    /// Marks the positions written as there.
    pub(super) fn advance(&mut self, positions: usize) {
        self.len += positions;
    }

    /// Writes keys and values `[heads, head_dim]` of one position, which was reserved.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        match self.pages.get_mut(position / PAGE).and_then(Arc::get_mut) {
            Some(page) => page.write(layer, position % PAGE, keys, values),
            None => unreachable!("position {position} was not reserved"),
        }
    }

    /// Keys and values of one head of one layer in one page.
    pub(super) fn block(&self, layer: usize, head: usize, page: usize) -> (&[f32], &[f32]) {
        self.pages[page].block(layer, head)
    }

    /// Writes keys and values `[rows, heads, head_dim]` of a layer to the positions after those that are there, which were reserved.
    pub(super) fn write_tensors(&self, layer: usize, keys: &Tensor, values: &Tensor) -> TensorResult<()> {
        let positions = self.len..self.len + keys.dim(0)?;
        let [keys, values] = [keys.transpose(0, 1)?, values.transpose(0, 1)?];
        for (page, part) in parts(positions.clone()) {
            let first = page * PAGE + part.start - positions.start;
            for (kept, new) in self.pages[page].tensors(layer)?.iter().zip([&keys, &values]) {
                kept.slice_set(&new.narrow(1, first, part.len())?.contiguous()?, 1, part.start)?;
            }
        }
        Ok(())
    }

    /// Keys and values `[heads, positions, head_dim]` of a layer; a copy unless they lie on one page.
    pub(super) fn read_tensors(&self, layer: usize, positions: Range<usize>) -> TensorResult<[Tensor; 2]> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (page, part) in parts(positions) {
            let [page_keys, page_values] = self.pages[page].tensors(layer)?;
            keys.push(page_keys.narrow(1, part.start, part.len())?);
            values.push(page_values.narrow(1, part.start, part.len())?);
        }
        Ok([Tensor::cat(&keys, 1)?, Tensor::cat(&values, 1)?])
    }
}

/// Pages, and which of their positions, hold some positions.
fn parts(positions: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let pages = positions.start / PAGE..positions.end.div_ceil(PAGE);
    pages.map(move |page| {
        let start = positions.start.max(page * PAGE);
        let end = positions.end.min((page + 1) * PAGE);
        (page, start - page * PAGE..end - page * PAGE)
    })
}
