//! Everything of a checkpoint but its weights, as the files of a folder that transformers reads too.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Checkpoint, CheckpointError};

/// What stands in a folder beside `config.json` and the weights.
const FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "generation_config.json",
];

impl Checkpoint {
    /// Writes configuration, tokenizer and chat template into a folder: files of a folder as they are, those of a GGUF file anew.
    /// `torch_dtype` says how the weights beside them will be stored.
    pub fn write_description(&self, folder: &Path, torch_dtype: &str) -> Result<(), CheckpointError> {
        let mut config = if self.path.is_dir() { self.copied(folder)? } else { self.written(folder)? };
        config["torch_dtype"] = json!(torch_dtype);
        write(&folder.join("config.json"), &format!("{config:#}\n"))
    }

    /// Copies the files of a folder. Returns its `config.json`.
    fn copied(&self, folder: &Path) -> Result<Value, CheckpointError> {
        for name in FILES {
            let from = self.path.join(name);
            if from.exists() {
                fs::copy(&from, folder.join(name)).map_err(CheckpointError::access(&from))?;
            }
        }
        let path = self.path.join("config.json");
        let text = fs::read_to_string(&path).map_err(CheckpointError::access(&path))?;
        serde_json::from_str(&text).map_err(|error| CheckpointError::corrupt(&path, error))
    }

    /// Writes what a GGUF file says. Returns its configuration.
    fn written(&self, folder: &Path) -> Result<Value, CheckpointError> {
        let corrupt = |error| CheckpointError::corrupt(&self.path, error);
        let tokenizer = self.tokenizer.to_json().map_err(corrupt)?;
        write(&folder.join("tokenizer.json"), &tokenizer.to_string())?;
        let mut described = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
        let special = [("bos_token", self.config.bos_token_id), ("eos_token", self.eos_token_ids.first().copied())];
        for (name, id) in special {
            if let Some(text) = id.and_then(|id| self.tokenizer.id_to_token(id)) {
                described[name] = json!(text);
            }
        }
        write(&folder.join("tokenizer_config.json"), &format!("{described:#}\n"))?;
        if let Some(template) = self.chat_template() {
            write(&folder.join("chat_template.jinja"), template)?;
        }
        serde_json::to_value(&self.config).map_err(corrupt)
    }
}

fn write(path: &Path, text: &str) -> Result<(), CheckpointError> {
    fs::write(path, text).map_err(CheckpointError::access(path))
}
