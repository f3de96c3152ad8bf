//! Scratch memory of a forward. It grows to the largest forward seen and is reused, so that a decode step allocates nothing.

use super::Model;
use crate::kernels::{Activations, Span};

/// Rows that go through the layers together; longer inputs are cut. Bounds the memory of a prefill without changing its results.
pub(super) const CHUNK_ROWS: usize = 64;

/// Scratch memory for one thread that runs forwards of one model, on any sequences. On a device only the logits are used.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) hidden: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) qkv: Vec<f32>,
    pub(super) heads: Vec<f32>,
    pub(super) attended: Vec<f32>,
    pub(super) activated: Vec<f32>,
    pub(super) logits: Vec<f32>,
    pub(super) activations: Activations,
    /// Rotations of the positions reached so far, `[positions, head_dim]`.
    pub(super) angles: Vec<f32>,
    /// Whose the present rows are.
    pub(super) spans: Vec<Span>,
    /// Those of the present rows that have logits.
    pub(super) predicting: Vec<usize>,
    /// Where the logits of each sequence begin, in rows.
    pub(super) starts: Vec<usize>,
}

impl Workspace {
    /// Memory for forwards of `model`; most of it comes with the first forward.
    pub fn new(model: &Model) -> Self {
        Self { logits: vec![0.0; model.config().vocab_size], ..Self::default() }
    }

    /// Rows that go through the layers now.
    pub(super) fn rows(&self) -> usize {
        self.spans.last().map_or(0, |span| span.first_row + span.rows)
    }
}
