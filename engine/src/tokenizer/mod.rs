//! Text to tokens and back, and chat messages to a prompt: a thin shell over `tokenizers` and `minijinja`.

mod chat;
mod python_json;
mod stream;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

pub use chat::Message;
pub use stream::StreamDecoder;

use chat::ChatTemplate;

/// Encodes and decodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tokenizer: tokenizers::Tokenizer,
    chat_template: Option<ChatTemplate>,
}

/// Texts of the special tokens that chat templates refer to; empty where there is none, which templates see as undefined.
#[derive(Clone, Debug, Default)]
pub struct SpecialTexts {
    /// First token of a text.
    pub bos: String,
    /// Last token of a text.
    pub eos: String,
    /// Others by the name of their variable: `unk_token`, `pad_token`, …
    pub others: BTreeMap<String, String>,
}

/// What can go wrong between text and tokens.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The file is no `tokenizer.json`.
    #[error("it is not a valid tokenizer: {0}")]
    Malformed(tokenizers::Error),
    /// The text cannot be expressed in the tokenizer's vocabulary.
    #[error("cannot encode the text: {0}")]
    Encode(tokenizers::Error),
    /// The checkpoint is not made for chat.
    #[error(
        "the checkpoint has no chat template (chat_template.jinja, or `chat_template` in tokenizer_config.json): send a plain prompt instead"
    )]
    NoChatTemplate,
    /// The chat template is wrong, or refuses these messages.
    #[error("the chat template of the checkpoint cannot render these messages: {}", with_causes(.0))]
    Template(minijinja::Error),
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`. Truncation and padding that it may ask for are turned off.
    pub fn from_bytes(
        json: &[u8],
        chat_template: Option<String>,
        special: SpecialTexts,
    ) -> Result<Self, TokenizerError> {
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(TokenizerError::Malformed)?;
        tokenizer.with_truncation(None).map_err(TokenizerError::Malformed)?.with_padding(None);
        let chat_template = chat_template.map(|source| ChatTemplate::new(source, special)).transpose()?;
        Ok(Self { inner: Arc::new(Inner { tokenizer, chat_template }) })
    }

    /// Tokens of a text, with the special tokens that the tokenizer's post-processor adds (such as a leading BOS), and no others.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_with(text, true)
    }

    /// Tokens of a text that brings its special tokens along, as [`Tokenizer::chat_prompt`] does.
    pub fn encode_without_special_tokens(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.tokenizer.encode_fast(text, add_special_tokens).map_err(TokenizerError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of some tokens. Special tokens and unknown ids are skipped; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        // Decoders fail on malformed configurations only; a text without the piece is the best answer then.
        self.inner.tokenizer.decode(ids, true).unwrap_or_default()
    }

    /// Id of a token by its text in the vocabulary, special tokens included.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.tokenizer.token_to_id(token)
    }

    /// Text of a token in the vocabulary, in the tokenizer's own spelling.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.tokenizer.id_to_token(id)
    }

    /// Largest id in the vocabulary, added tokens included.
    pub fn largest_id(&self) -> Option<u32> {
        self.inner.tokenizer.get_vocab(true).into_values().max()
    }

    /// The content of a `tokenizer.json` that gives the same tokens.
    pub(crate) fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(&self.inner.tokenizer)
    }

    /// Source of the chat template, where there is one.
    pub fn chat_template(&self) -> Option<&str> {
        self.inner.chat_template.as_ref().map(ChatTemplate::source)
    }

    /// The prompt for a chat: the template applied to `messages` ([`Message`] or JSON objects), ending where the assistant begins.
    /// Encode it with [`Tokenizer::encode_without_special_tokens`].
    pub fn chat_prompt(&self, messages: &[impl Serialize]) -> Result<String, TokenizerError> {
        let template = self.inner.chat_template.as_ref().ok_or(TokenizerError::NoChatTemplate)?;
        template.render(messages).map_err(TokenizerError::Template)
    }
}
