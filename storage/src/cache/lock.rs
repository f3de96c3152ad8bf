//! One downloader for each source and cache. The lock is the kernel's and ends with its process, however that ends.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::error::{Result, StorageError};

const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Held until it is dropped.
pub(super) struct Lock {
    _file: File,
}

/// Waits for the lock; `waiting` is called while another process holds it.
pub(super) async fn wait(path: &Path, mut waiting: impl FnMut()) -> Result<Lock> {
    let file = File::options().create(true).append(true).open(path).map_err(StorageError::file(path))?;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::Error(source)) => return Err(StorageError::NoLocks { path: path.to_owned(), source }),
            Err(TryLockError::WouldBlock) if !is_told => {
                tracing::info!("another process downloads the same into {}: waiting for it", path.display());
                is_told = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        waiting();
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
