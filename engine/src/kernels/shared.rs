#![expect(unsafe_code, reason = "several threads write disjoint parts of one slice")]
//! A slice whose disjoint parts several threads write at a time.

use std::marker::PhantomData;
use std::slice;

/// Lends parts of a slice to the pieces of a job.
pub(super) struct SharedMut<'a, T> {
    values: *mut T,
    length: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: the slice is borrowed exclusively, and `part` leaves it to its callers that parts do not overlap.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(super) fn new(values: &'a mut [T]) -> Self {
        Self { values: values.as_mut_ptr(), length: values.len(), borrowed: PhantomData }
    }

    /// The part of `length` values from `start` on.
    ///
    /// # Safety
    /// While the part lives, nobody else may hold one that overlaps it.
    #[expect(clippy::mut_from_ref, reason = "callers vouch for disjoint parts")]
    #[inline]
    pub(super) unsafe fn part(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start <= self.length && length <= self.length - start, "a part beyond the end of a shared slice");
        // SAFETY: within the slice by the assertion, exclusive by the caller's promise.
        unsafe { slice::from_raw_parts_mut(self.values.add(start), length) }
    }
}
