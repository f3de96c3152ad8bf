#![expect(unsafe_code, reason = "mapping a file into memory is unsafe by nature")]
//! Read-only mapping of weight files, so that opening a checkpoint needs no second copy of it in memory.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a whole file. A checkpoint is renamed into place when complete and never rewritten, so the content does not change.
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the mapping is private and read-only, and finished checkpoints are immutable (see `Checkpoint`).
    unsafe { Mmap::map(&file) }
}
