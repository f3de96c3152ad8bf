//! The name of a checkpoint by content: equal digests mean equal tokens.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::CheckpointError;
use super::layout::Layout;

const FILES: [&str; 6] = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// `sha256:<hex>` over (name, length, content) of the files that a checkpoint consists of, in the order of their names: the
/// files that loading reads, `*.safetensors` and `*.safetensors.index.json`. Anything else beside them, such as a report, does not count.
/// A GGUF file counts as `model.gguf`, whatever it is called.
pub fn digest(path: &Path) -> Result<String, CheckpointError> {
    let mut hash = Sha256::new();
    let folder = match Layout::of(path)? {
        Layout::Folder => path,
        Layout::Gguf(file) => {
            add_file(&mut hash, "model.gguf", &file).map_err(CheckpointError::access(&file))?;
            return Ok(format!("sha256:{:x}", hash.finalize()));
        }
    };
    for name in checkpoint_files(folder)? {
        let path = folder.join(&name);
        add_file(&mut hash, &name, &path).map_err(CheckpointError::access(&path))?;
    }
    Ok(format!("sha256:{:x}", hash.finalize()))
}

fn checkpoint_files(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(CheckpointError::access(folder))? {
        let entry = entry.map_err(CheckpointError::access(folder))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if FILES.contains(&name.as_str()) || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
        {
            names.push(name);
        }
    }
    names.sort();
    if names.is_empty() {
        return Err(CheckpointError::corrupt(folder, "it holds none of the files of a checkpoint"));
    }
    Ok(names)
}

fn add_file(hash: &mut Sha256, name: &str, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name.as_bytes());
    hash.update(file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => hash.update(&buffer[..n]),
        }
    }
}
