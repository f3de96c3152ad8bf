//! A checkpoint, opened and checked: configuration, tokenizer, weights. A folder as Hugging Face writes it, or a GGUF file.
//!
//! Nothing is computed here. Whoever holds a [`Checkpoint`] may rely on every shape, type and value in it.

mod config;
mod dequantize;
mod description;
mod digest;
mod dtype;
mod error;
mod gguf;
mod layout;
mod mapped;
mod rows;
mod tensors;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

pub use config::{
    ConfigError, EosTokenIds, Family, LayerDescription, LayerType, ModelConfig, RopeScaling, SlidingWindow,
};
pub use digest::digest;
pub use dtype::Dtype;
pub use error::CheckpointError;
pub use gguf::{ExportDtype, GgufError, export_gguf};
pub(crate) use tensors::StoredMatrix;
pub use tensors::{TensorView, Tensors};

use self::layout::Layout;
use crate::tokenizer::{SpecialTexts, Tokenizer};

/// An opened checkpoint. Its weights are mapped, not read: the files must not change while it lives.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: ModelConfig,
    eos_token_ids: Vec<u32>,
    tokenizer: Tokenizer,
    tensors: Tensors,
}

impl Checkpoint {
    /// Opens a GGUF file, a folder that holds exactly one, or a folder with `config.json`, `tokenizer.json` and `model.safetensors` (or
    /// `model.safetensors.index.json` and its shards), and optionally `generation_config.json`, `tokenizer_config.json`,
    /// `special_tokens_map.json` and `chat_template.jinja`. Reads and checks every weight.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        match Layout::of(path)? {
            Layout::Folder => Self::open_folder(path),
            Layout::Gguf(file) => Self::open_gguf(file),
        }
    }

    fn open_folder(path: &Path) -> Result<Self, CheckpointError> {
        let config = read_config(&path.join("config.json"))?;
        let eos_token_ids = read_eos(path, &config)?;
        let tokenizer = read_tokenizer(path, &config)?;
        let tensors = Tensors::open(path)?;
        tensors.check(&config)?;
        Ok(Self { path: path.to_owned(), config, eos_token_ids, tokenizer, tensors })
    }

    fn open_gguf(path: PathBuf) -> Result<Self, CheckpointError> {
        let map = mapped::Mapped::open(&path).map_err(CheckpointError::access(&path))?;
        let contents = gguf::read(&map).map_err(CheckpointError::gguf(&path))?;
        let config = ModelConfig::from_json(&contents.config.to_string())
            .map_err(|source| CheckpointError::Config { path: path.clone(), source })?;
        let json = contents.tokenizer.to_string();
        let tokenizer = make_tokenizer(&path, json.as_bytes(), contents.chat_template, contents.special, &config)?;
        let tensors = Tensors::in_gguf(path.clone(), map, contents.tensors);
        tensors.check(&config)?;
        let eos_token_ids = config.eos_token_id.as_ref().map_or_else(Vec::new, |ids| ids.as_slice().to_vec());
        Ok(Self { path, config, eos_token_ids, tokenizer, tensors })
    }

    /// The folder, or the GGUF file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Tokens that end a text; empty where the checkpoint names none.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// The tokenizer, with the chat template where there is one.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Source of the chat template (Jinja), where there is one.
    pub fn chat_template(&self) -> Option<&str> {
        self.tokenizer.chat_template()
    }

    /// The weights by name.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Number of weights of the model; a tied output layer counts once.
    pub fn parameters(&self) -> u64 {
        self.config.tensor_shapes().iter().map(|(_, shape)| shape.iter().map(|&n| n as u64).product::<u64>()).sum()
    }
}

fn read_config(path: &Path) -> Result<ModelConfig, CheckpointError> {
    let text = fs::read_to_string(path).map_err(CheckpointError::access(path))?;
    if serde_json::from_str::<Value>(&text).is_ok_and(|config| config.get("auto_map").is_some_and(|map| !map.is_null()))
    {
        return Err(CheckpointError::OwnCode { path: path.to_owned() });
    }
    ModelConfig::from_json(&text).map_err(|source| CheckpointError::Config { path: path.to_owned(), source })
}

#[derive(Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<EosTokenIds>,
}

fn read_eos(folder: &Path, config: &ModelConfig) -> Result<Vec<u32>, CheckpointError> {
    let path = folder.join("generation_config.json");
    let generation: Option<GenerationConfig> = read_optional_json(&path)?;
    let ids = generation.and_then(|generation| generation.eos_token_id).or_else(|| config.eos_token_id.clone());
    let ids = ids.map_or_else(Vec::new, |ids| ids.as_slice().to_vec());
    match ids.iter().copied().find(|&id| id as usize >= config.vocab_size) {
        Some(id) => Err(CheckpointError::TokenOutsideVocabulary { path, id, vocab_size: config.vocab_size }),
        None => Ok(ids),
    }
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<ChatTemplates>,
    /// `bos_token` and the like among others.
    #[serde(flatten)]
    fields: BTreeMap<String, TokenText>,
}

/// The special tokens that transformers knows by name.
const SPECIAL_TOKENS: [&str; 5] = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// `"</s>"`, or `{"content": "</s>", …}` in older files.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Described { content: String },
    Other(IgnoredAny),
}

impl TokenText {
    fn text(self) -> String {
        match self {
            Self::Plain(text) | Self::Described { content: text } => text,
            Self::Other(_) => String::new(),
        }
    }
}

fn read_tokenizer(folder: &Path, config: &ModelConfig) -> Result<Tokenizer, CheckpointError> {
    let path = folder.join("tokenizer.json");
    let bytes = fs::read(&path).map_err(CheckpointError::access(&path))?;
    let described: TokenizerConfig = read_optional_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    // older folders have them in a file of their own
    let older: Option<BTreeMap<String, TokenText>> = read_optional_json(&folder.join("special_tokens_map.json"))?;
    let special = special_texts(older.unwrap_or_default().into_iter().chain(described.fields));
    let chat_template = match read_optional_text(&folder.join("chat_template.jinja"))? {
        Some(template) => Some(template),
        None => described.chat_template.and_then(default_template),
    };
    make_tokenizer(&path, &bytes, chat_template, special, config)
}

/// From the content of a `tokenizer.json`; `path` is where it came from.
fn make_tokenizer(
    path: &Path,
    json: &[u8],
    chat_template: Option<String>,
    special: SpecialTexts,
    config: &ModelConfig,
) -> Result<Tokenizer, CheckpointError> {
    let tokenizer =
        Tokenizer::from_bytes(json, chat_template, special).map_err(|e| CheckpointError::corrupt(path, e))?;
    match tokenizer.largest_id() {
        Some(id) if id as usize >= config.vocab_size => {
            let path = path.to_owned();
            Err(CheckpointError::TokenOutsideVocabulary { path, id, vocab_size: config.vocab_size })
        }
        _ => Ok(tokenizer),
    }
}

/// The texts that are there; later ones replace earlier ones.
fn special_texts(fields: impl Iterator<Item = (String, TokenText)>) -> SpecialTexts {
    let mut texts: BTreeMap<String, String> =
        fields.map(|(name, token)| (name, token.text())).filter(|(_, text)| !text.is_empty()).collect();
    let mut take = |name: &str| texts.remove(name).unwrap_or_default();
    let (bos, eos) = (take("bos_token"), take("eos_token"));
    let others = SPECIAL_TOKENS.into_iter().map(|name| (name.to_owned(), take(name)));
    SpecialTexts { bos, eos, others: others.filter(|(_, text)| !text.is_empty()).collect() }
}

fn default_template(templates: ChatTemplates) -> Option<String> {
    match templates {
        ChatTemplates::One(template) => Some(template),
        ChatTemplates::Named(named) => named.into_iter().find(|t| t.name == "default").map(|t| t.template),
    }
}

fn read_optional_text(path: &Path) -> Result<Option<String>, CheckpointError> {
    if !path.exists() {
        return Ok(None);
    }
    fs::read_to_string(path).map(Some).map_err(CheckpointError::access(path))
}

fn read_optional_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(CheckpointError::access(path))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| CheckpointError::corrupt(path, e))
}
