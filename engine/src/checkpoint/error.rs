//! What can be wrong with a checkpoint folder. Every message names the file and says what is allowed.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::ConfigError;

/// Why a checkpoint could not be opened or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file is missing, unreadable or unwritable.
    #[error("cannot access {path}: {source}. A checkpoint is a folder with {LAYOUT}")]
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
    #[error("{path}: tensor `{name}` has dtype {found}; supported are F32, BF16 and F16")]
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
    #[error("{path} has a token with id {id}, but `vocab_size` in config.json is {vocab_size}; ids must be smaller")]
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

    pub(crate) fn corrupt(path: &Path, reason: impl Display) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.to_string() }
    }
}
