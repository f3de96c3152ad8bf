//! Memory for keys and values, in pages of a fixed number of positions with a bound on their number. Caches of many sequences take pages
//! from one pool as they grow, share those of equal beginnings, and give them back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::page::{PAGE, Page, PageMemory, PageShape, Place};
use super::{ForwardError, Model, TensorFailure};
use crate::checkpoint::ModelConfig;

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
    free: Mutex<Vec<PageMemory>>,
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
        let shape = PageShape::new(model.config(), model.place());
        let shared = Shared { shape, limit, used: AtomicUsize::new(0), free: Mutex::new(Vec::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// Positions of a page.
    pub const PAGE: usize = PAGE;

    /// Bytes of a page of `model`.
    pub fn page_bytes_of(model: &Model) -> usize {
        Self::unbounded(model).page_bytes()
    }

    /// Bytes of a page of a model of this shape, on the processor.
    pub fn page_bytes_on_processor(config: &ModelConfig) -> usize {
        PageShape::new(config, Place::Host).bytes()
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
        self.shared.shape.bytes()
    }

    /// What is said when no page is left.
    pub(crate) fn full(&self) -> KvMemoryFull {
        KvMemoryFull { positions: self.shared.limit.saturating_mul(PAGE) }
    }

    /// How its pages are laid out.
    pub(super) fn shape(&self) -> &PageShape {
        &self.shared.shape
    }

    /// A page with anything in it.
    pub(super) fn take(&self) -> Result<Page, ForwardError> {
        let Shared { shape, limit, used, free } = &*self.shared;
        let more = |used: usize| (used < *limit).then_some(used + 1);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(self.full().into());
        }
        let recycled = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = recycled.map_or_else(|| shape.memory(), Ok);
        let memory = memory.map_err(|error| {
            used.fetch_sub(1, Ordering::Relaxed);
            TensorFailure::new("making room for keys and values", &error)
        })?;
        Ok(Page::new(memory, self.clone()))
    }

    /// The memory of a page that nobody needs.
    pub(super) fn give_back(&self, memory: PageMemory) {
        self.shared.free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        self.shared.used.fetch_sub(1, Ordering::Relaxed);
    }
}
