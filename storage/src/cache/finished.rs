//! A finished folder and its description, by which it is recognized and checked cheaply: every file is there with its size.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Fetched;
use crate::error::{Result, StorageError};
use crate::progress::Meter;

const DESCRIPTION: &str = ".source.json";

/// `.source.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Description {
    identity: String,
    /// The URI.
    pub(super) source: String,
    revision: String,
    pub(super) files: Vec<DescribedFile>,
}

/// A file of a finished folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DescribedFile {
    pub(super) name: String,
    size: u64,
}

/// A folder whose files are all there.
pub(super) struct Finished {
    folder: PathBuf,
    description: Description,
    written: SystemTime,
}

impl Finished {
    /// What is about to be finished.
    pub(super) fn describe(identity: String, source: String, revision: String) -> Description {
        Description { identity, source, revision, files: Vec::new() }
    }

    /// The folder, if it is as it was described.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let path = folder.join(DESCRIPTION);
        let description: Description = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let is_there = |file: &DescribedFile| {
            fs::metadata(folder.join(&file.name)).is_ok_and(|found| found.is_file() && found.len() == file.size)
        };
        if let Some(missing) = description.files.iter().find(|file| !is_there(file)) {
            tracing::warn!("{} has lost or changed {}: it is downloaded again", folder.display(), missing.name);
            return None;
        }
        let written = fs::metadata(&path).and_then(|found| found.modified()).ok()?;
        Some(Self { folder: folder.to_owned(), description, written })
    }

    /// The last one of a source.
    pub(super) fn newest(cache: &Path, identity: &str) -> Option<Self> {
        let folders = fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let visible =
            folders.filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
        let ours = visible.filter_map(|folder| Self::open(&folder)).filter(|it| it.description.identity == identity);
        ours.max_by_key(|finished| finished.written)
    }

    /// As the caller sees it.
    pub(super) fn fetched(self, meter: &Meter) -> Fetched {
        let total = self.description.files.iter().map(|file| file.size).sum();
        meter.begin(total, total);
        Fetched {
            folder: self.folder,
            revision: self.description.revision,
            files: self.description.files.into_iter().map(|file| file.name).collect(),
        }
    }
}

impl Description {
    /// With the visible files of a folder.
    pub(super) fn with_files_of(mut self, folder: &Path) -> Result<Self> {
        for entry in fs::read_dir(folder).map_err(StorageError::file(folder))? {
            let entry = entry.map_err(StorageError::file(folder))?;
            let size = entry.metadata().map_err(StorageError::file(folder))?.len();
            match entry.file_name().into_string() {
                Ok(name) if !name.starts_with('.') => self.files.push(DescribedFile { name, size }),
                _ => {}
            }
        }
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(self)
    }

    /// Onto the disk, with everything beside it.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(DESCRIPTION);
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| StorageError::unexpected("the description", error))?;
        fs::write(&path, text)
            .and_then(|()| File::open(&path)?.sync_all())
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(StorageError::file(&path))
    }
}
