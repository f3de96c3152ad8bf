#![expect(unsafe_code, reason = "mapping a file into memory, and giving its pages back, is unsafe by nature")]
//! Read-only mapping of weight files, so that opening a checkpoint needs no second copy of it in memory.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

/// A weight file in memory: its pages are read from the file when they are touched.
#[derive(Debug)]
pub(super) struct Mapped(Mmap);

impl Mapped {
    /// Maps a whole file. A checkpoint is renamed into place when complete and never rewritten, so the content does not change.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is private and read-only, and finished checkpoints are immutable (see `Checkpoint`).
        unsafe { Mmap::map(&file) }.map(Self)
    }

    /// Gives back the memory that some bytes take. Who reads them again, at any time and on any thread, has them read from the file again.
    #[cfg(unix)]
    pub(super) fn release(&self, bytes: Range<usize>) {
        // SAFETY: nothing can be written through the mapping, so that its pages hold what the file holds, and dropping them loses nothing:
        // the next access maps the file's page again, with the same bytes since the file does not change.
        let released =
            unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len()) };
        // A system that will not have it keeps the pages, which costs memory and nothing else.
        drop(released);
    }

    /// Elsewhere the system decides alone.
    #[cfg(not(unix))]
    pub(super) fn release(&self, _: Range<usize>) {}
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
