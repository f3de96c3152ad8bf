//! The rows of a weight, one after the other, without keeping in memory what lies behind.

use std::ops::Range;

use super::gguf::RowOrder;
use super::mapped::Mapped;

/// Bytes after which memory is given back. Packing looks back at some rows, which are shorter than this together.
const PIECE: usize = 8 << 20;

/// Pieces of a mapped weight, all equally long but the last, in the order of Hugging Face. Their memory is given back as the iterator goes
/// on and when it is dropped; pieces remain readable.
pub(crate) struct Rows<'a> {
    file: &'a Mapped,
    bytes: Range<usize>,
    width: usize,
    order: RowOrder,
    count: usize,
    next: usize,
    /// Bytes of the weight that have been given back.
    released: usize,
}

impl<'a> Rows<'a> {
    /// Pieces of `width` bytes. In any order but the plain one they must be the rows of the weight.
    pub(super) fn new(file: &'a Mapped, bytes: Range<usize>, width: usize, order: RowOrder) -> Self {
        let count = bytes.len().div_ceil(width.max(1));
        Self { file, bytes, width, order, count, next: 0, released: 0 }
    }

    fn release_to(&mut self, end: usize) {
        self.file.release(self.bytes.start + self.released..self.bytes.start + end);
        self.released = end;
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.next == self.count {
            return None;
        }
        let begin = self.bytes.start + self.order.source(self.next, self.count) * self.width;
        let passed = self.next * self.width;
        if passed >= self.released + 2 * PIECE {
            self.release_to(passed - PIECE);
        }
        self.next += 1;
        self.file.get(begin..self.bytes.end.min(begin + self.width))
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        self.release_to(self.bytes.len());
    }
}
