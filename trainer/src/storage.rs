//! Files and folders that are there completely or not at all, and the lock of a folder. No formats.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Held as long as this process writes into a folder.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder where it is missing and locks it; fails where another process holds the lock.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        Self::take_named(folder, ".lock")
    }

    /// A lock beside others in the same folder: for writers of different files.
    pub(crate) fn take_named(folder: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Failure::write(folder))?;
        let path = folder.join(name);
        let file = File::options().create(true).append(true).open(&path).map_err(Failure::write(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::Locked(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(Failure::Write { path, source }),
        }
    }
}

/// Writes a file under a temporary name, syncs it and renames it.
pub(crate) fn write_file(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let temporary = sibling(path, ".partial");
    let outcome = write(&temporary).and_then(|()| seal(&temporary));
    if let Err(source) = outcome {
        // best effort: the error that is reported is the first one
        let _ = fs::remove_file(&temporary);
        return Err(Failure::Write { path: path.to_owned(), source });
    }
    fs::rename(&temporary, path).map_err(Failure::write(path))?;
    sync_folder(parent(path))
}

/// [`write_file`] for content that is in memory.
pub(crate) fn write_bytes(path: &Path, content: &[u8]) -> Result<()> {
    write_file(path, |temporary| File::create(temporary)?.write_all(content))
}

/// Fills a folder under a temporary name, syncs it and renames it. The folder must not exist.
pub(crate) fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    fs::create_dir_all(parent(path)).map_err(Failure::write(path))?;
    let temporary = sibling(path, ".partial");
    remove_folder(&temporary)?;
    fs::create_dir(&temporary).map_err(Failure::write(&temporary))?;
    let outcome = fill(&temporary).and_then(|()| sync_files(&temporary));
    if let Err(failure) = outcome {
        let _ = fs::remove_dir_all(&temporary);
        return Err(failure);
    }
    fs::rename(&temporary, path).map_err(Failure::write(path))?;
    sync_folder(parent(path))
}

/// Removes a folder where there is one.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    if path.exists() { fs::remove_dir_all(path).map_err(Failure::write(path)) } else { Ok(()) }
}

fn sync_files(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Failure::write(folder))? {
        let path = entry.map_err(Failure::write(folder))?.path();
        // a folder inside was written by `write_folder` too
        if path.is_file() {
            seal(&path).map_err(Failure::write(&path))?;
        }
    }
    sync_folder(folder)
}

/// On the disk, and readable for the server, which runs as another user; safetensors writes for the owner alone.
fn seal(path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o644))?;
    File::open(path)?.sync_all()
}

/// A rename is durable only when its folder is.
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Failure::write(folder))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_previous_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_bytes(&path, b"first").unwrap();
        let failed = write_file(&path, |temporary| {
            fs::write(temporary, b"half")?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        });
        assert!(failed.unwrap_err().to_string().contains("make room"));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_folder_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_folder(&path, |_| Err(Failure::Interrupted)).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write_folder(&path, |inside| write_bytes(&inside.join("a"), b"x")).unwrap();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"x");
    }

    #[test]
    fn a_folder_may_hold_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_folder(&path, |outer| {
            write_folder(&outer.join("inner"), |inner| write_bytes(&inner.join("a"), b"x"))?;
            write_bytes(&outer.join("b"), b"y")
        })
        .unwrap();
        let mode = fs::metadata(path.join("inner")).unwrap().permissions().mode();
        assert_eq!(mode & 0o700, 0o700, "it can be entered");
        assert_eq!(fs::read(path.join("inner/a")).unwrap(), b"x");
    }

    #[test]
    fn what_is_written_can_be_read_by_the_user_of_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let private = |path: &Path| {
            fs::write(path, b"x")?;
            fs::set_permissions(path, Permissions::from_mode(0o600))
        };
        write_file(&folder.path().join("a"), private).unwrap();
        write_folder(&folder.path().join("out"), |inside| private(&inside.join("b")).map_err(Failure::write(inside)))
            .unwrap();
        for name in ["a", "out/b"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "{name}");
        }
    }

    #[test]
    fn a_folder_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path()).unwrap();
        assert!(matches!(FolderLock::take(folder.path()), Err(Failure::Locked(_))));
        drop(first);
        FolderLock::take(folder.path()).unwrap();
    }
}
