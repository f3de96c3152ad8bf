//! Files and folders that are there completely or not at all, and the lock of a folder. No formats.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Ends the name of what is not complete; a dot begins it.
const UNFINISHED: &str = ".partial";

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
        make_folder(folder)?;
        let path = folder.join(name);
        let file = File::options().create(true).append(true).open(&path).map_err(Failure::write(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::Locked(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(Failure::Write { path, source }),
        }
    }
}

/// Writes a file, syncs it and renames it into place. Until then it lies in a folder of its own, because a writer may make others beside
/// the one it was asked for, as safetensors does. What a killed writer left of this file is removed.
pub(crate) fn write_file(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let folder = unfinished(path);
    remove(&folder)?;
    let temporary = folder.join(path.file_name().unwrap_or_default());
    let outcome = fs::create_dir(&folder)
        .and_then(|()| write(&temporary))
        .and_then(|()| seal(&temporary))
        .and_then(|()| fs::rename(&temporary, path));
    // best effort: the error that is reported is the first one
    let _ = fs::remove_dir_all(&folder);
    outcome.map_err(Failure::write(path))?;
    sync_folder(parent(path))
}

/// [`write_file`] for content that is in memory.
pub(crate) fn write_bytes(path: &Path, content: &[u8]) -> Result<()> {
    write_file(path, |temporary| File::create(temporary)?.write_all(content))
}

/// Fills a folder under a temporary name, syncs it and renames it. The folder must not exist.
pub(crate) fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    make_folder(parent(path))?;
    let temporary = unfinished(path);
    remove(&temporary)?;
    fs::create_dir(&temporary).map_err(Failure::write(&temporary))?;
    let outcome = fill(&temporary).and_then(|()| sync_files(&temporary));
    if let Err(failure) = outcome {
        let _ = fs::remove_dir_all(&temporary);
        return Err(failure);
    }
    fs::rename(&temporary, path).map_err(Failure::write(path))?;
    sync_folder(parent(path))
}

/// Removes what killed writers have left of files whose names begin with `prefix`. Nobody may be writing them.
pub(crate) fn remove_unfinished(folder: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Failure::write(folder))? {
        let path = entry.map_err(Failure::write(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of = name.strip_prefix('.').and_then(|name| name.strip_suffix(UNFINISHED));
        if of.is_some_and(|name| name.starts_with(prefix)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file or a folder where there is one.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(Failure::write(path))
}

/// Makes a folder where it is missing, and those above it. It is on the disk before anything in it is.
fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make_folder(parent(folder))?;
    match fs::create_dir(folder) {
        // another process may make it at the same time
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Failure::write(folder)(error)),
        _ => sync_folder(parent(folder)),
    }
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

/// The name of a file or folder until it is complete.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
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
    fn what_a_killed_writer_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let leave = |name: &str| {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(".tmpAbc"), b"half").unwrap();
        };
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        leave(".step-1.partial");
        write_bytes(&folder.path().join("step-1"), b"whole").unwrap();
        assert_eq!(names(), ["step-1"], "by whoever writes the file again");
        leave(".step-2.partial");
        leave(".other.partial");
        fs::write(folder.path().join(".step-3.partial"), b"half").unwrap();
        remove_unfinished(folder.path(), "step-").unwrap();
        assert_eq!(names(), [".other.partial", "step-1"], "or by whoever owns the folder");
    }

    #[test]
    fn folders_are_made_with_those_above() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        drop(FolderLock::take(&path).unwrap());
        drop(FolderLock::take(&path).unwrap());
        assert!(path.join(".lock").is_file());
        fs::write(folder.path().join("file"), b"x").unwrap();
        let problem = FolderLock::take(&folder.path().join("file/state")).unwrap_err().to_string();
        assert!(problem.contains("cannot write") && problem.contains("file/state"), "{problem}");
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
