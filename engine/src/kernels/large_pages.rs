#![expect(unsafe_code, reason = "the system is asked by address")]
//! Memory for weights. All of them are read for every forward: on pages of 4 KiB that waits for thousands of address look-ups, and the
//! processor's own prefetching ends at the end of every page.

/// An empty vector with room for `length` values, on large pages where the system grants them (Linux: transparent huge pages in the mode
/// `madvise` or `always`). It must be filled as it is: what grows beyond `length` moves to ordinary memory.
pub(super) fn with_capacity<T>(length: usize) -> Vec<T> {
    let vector = Vec::with_capacity(length);
    #[cfg(target_os = "linux")]
    ask_for_large_pages(&vector);
    vector
}

#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(vector: &Vec<T>) {
    // SAFETY: it only answers a question.
    let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) else { return };
    let address = vector.as_ptr().addr();
    let start = address.next_multiple_of(page);
    let end = (address + vector.capacity() * size_of::<T>()) / page * page;
    if start < end {
        let first = vector.as_ptr().cast::<libc::c_void>().wrapping_byte_add(start - address);
        // SAFETY: whole pages of the vector's memory; the advice changes nothing of what is in them. Where it is refused, reading is slower.
        let _ = unsafe { libc::madvise(first.cast_mut(), end - start, libc::MADV_HUGEPAGE) };
    }
}
