//! What a path to a checkpoint is. Nothing is read but names.

use std::fs;
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// How a checkpoint is laid out on disk.
#[derive(Debug)]
pub(super) enum Layout {
    /// A folder as Hugging Face writes it.
    Folder,
    /// This GGUF file.
    Gguf(PathBuf),
}

/// Endings of weights that are Python objects.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "pkl", "ckpt"];

impl Layout {
    /// A file is taken for GGUF, whatever it is called: its content decides. A folder without `config.json` is taken for the one GGUF file
    /// in it.
    pub(super) fn of(path: &Path) -> Result<Self, CheckpointError> {
        if path.is_file() {
            return if has_ending(path, &PICKLES) { Err(pickle(path)) } else { Ok(Self::Gguf(path.to_owned())) };
        }
        if path.join("config.json").exists() {
            return refuse_pickles(path).map(|()| Self::Folder);
        }
        let mut files = with_ending(path, &["gguf"])?;
        match (files.pop(), files.len()) {
            (None, _) => Ok(Self::Folder),
            (Some(file), 0) => Ok(Self::Gguf(file)),
            (Some(_), others) => Err(CheckpointError::SeveralGguf { path: path.to_owned(), found: others + 1 }),
        }
    }
}

/// Pickles beside safetensors do no harm; where they are all there is, they are what was meant.
fn refuse_pickles(folder: &Path) -> Result<(), CheckpointError> {
    if !with_ending(folder, &["safetensors"])?.is_empty() {
        return Ok(());
    }
    match with_ending(folder, &PICKLES)?.into_iter().next() {
        Some(file) => Err(pickle(&file)),
        None => Ok(()),
    }
}

fn pickle(path: &Path) -> CheckpointError {
    CheckpointError::Pickle { path: path.to_owned() }
}

/// Files of a folder with one of these endings, sorted.
fn with_ending(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(CheckpointError::access(folder))? {
        let path = entry.map_err(CheckpointError::access(folder))?.path();
        if has_ending(&path, endings) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}
