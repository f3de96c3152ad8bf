//! Scratch memory of a forward. It grows to the largest forward seen and is reused, so that a decode step allocates nothing.

use super::Model;

/// Rows that go through the layers together; longer inputs are cut. Bounds the memory of a prefill without changing its results.
pub(super) const CHUNK_ROWS: usize = 64;

/// Scratch memory for one thread that runs forwards, on any model and sequence.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) hidden: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) qkv: Vec<f32>,
    pub(super) attended: Vec<f32>,
    pub(super) activated: Vec<f32>,
    pub(super) rope_angles: Vec<f32>,
    pub(super) logits: Vec<f32>,
}

impl Workspace {
    /// Memory for short forwards of `model`.
    pub fn new(model: &Model) -> Self {
        let mut workspace = Self::default();
        let rows = 1;
        resized(&mut workspace.logits, rows * model.config().vocab_size);
        workspace
    }
}

/// The first `length` values of a buffer, which grows where it must and never shrinks.
pub(super) fn resized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}
