//! What can be wrong with a checkpoint folder. Every message names the file and says what is allowed.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{ConfigError, GgufError};

/// Why a checkpoint could not be opened or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file is missing, unreadable or unwritable.
    #[error("cannot access {path}: {source}. A checkpoint is a folder with {LAYOUT}, or a GGUF file")]
    Access {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// `config.json` describes something that the engine does not run.
    #[error("{path}: {source}")]
    Config {
        /// The `config.json`.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// A GGUF file that cannot be read or written.
    #[error("{path}: {source}")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// A folder with more than one model.
    #[error("{path} holds {found} GGUF files and no config.json: name the one that is meant")]
    SeveralGguf {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// Weights as Python objects: loading them would run code.
    #[error(
        "{path} is a pickle, which may run any code when it is read, so it never is. Convert the checkpoint to safetensors, for example \
         with transformers' save_pretrained"
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint that brings its own code.
    #[error(
        "{path} has `auto_map`, which names Python code of the checkpoint; code of a checkpoint is never run. Supported are the stock \
         architectures: remove `auto_map` only if the model is one of them"
    )]
    OwnCode {
        /// The `config.json`.
        path: PathBuf,
    },
    /// A file is not what its name promises.
    #[error("{path} is damaged or of another format: {reason}. Copy or write the checkpoint again")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A weight that the configuration asks for is not there.
    #[error("{path} has no tensor `{name}`; the configuration asks for one of shape {expected:?}")]
    MissingTensor {
        /// The weight file or index.
        path: PathBuf,
        /// Name of the weight.
        name: String,
        /// Its shape according to the configuration.
        expected: Vec<usize>,
    },
    /// A weight has another shape than the configuration says.
    #[error("{path}: tensor `{name}` has shape {found:?}, but the configuration asks for {expected:?}")]
    WrongShape {
        /// The weight file.
        path: PathBuf,
        /// Name of the weight.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// Its shape according to the configuration.
        expected: Vec<usize>,
    },
    /// A weight that no model of this configuration has: computing without it would give other results than its author's.
    #[error(
        "{path}: tensor `{name}` is not part of a model of this configuration (adapters, experts and biases that it does not name are not supported)"
    )]
    UnexpectedTensor {
        /// The weight file.
        path: PathBuf,
        /// Name of the weight.
        name: String,
    },
    /// A weight is stored in a type that is not supported.
    #[error(
        "{path}: tensor `{name}` has dtype {found}; supported are F32, BF16 and F16 (and in GGUF files blocks of 2 to 8 bits)"
    )]
    Dtype {
        /// The weight file.
        path: PathBuf,
        /// Name of the weight.
        name: String,
        /// Its type in the file.
        found: String,
    },
    /// A weight is infinite or not a number.
    #[error("{path}: tensor `{name}` holds {value} at element {index}; weights must be finite numbers")]
    NotFinite {
        /// The weight file.
        path: PathBuf,
        /// Name of the weight.
        name: String,
        /// Index of the first such element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The tokenizer knows tokens for which the model has no embedding.
    #[error("{path} has a token with id {id}, but the model's `vocab_size` is {vocab_size}; ids must be smaller")]
    TokenOutsideVocabulary {
        /// The `tokenizer.json` or `generation_config.json`.
        path: PathBuf,
        /// The largest id found.
        id: u32,
        /// The model's vocabulary.
        vocab_size: usize,
    },
}

const LAYOUT: &str =
    "config.json, tokenizer.json and model.safetensors (or model.safetensors.index.json and its shards)";

impl CheckpointError {
    pub(crate) fn access(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Access { path: path.to_owned(), source }
    }

    pub(crate) fn gguf(path: &Path) -> impl FnOnce(GgufError) -> Self {
        move |source| Self::Gguf { path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Display) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.to_string() }
    }
}
