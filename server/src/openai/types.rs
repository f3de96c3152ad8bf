//! The shapes of the OpenAI API on the wire: what is sent, nothing about how it comes about.

use serde::Serialize;

use crate::speculation::ResponseMetrics;

/// A whole answer, or one event of a stream.
#[derive(Debug, Serialize)]
pub struct Envelope<'a, C> {
    /// Equal in all events of a stream.
    pub id: &'a str,
    /// The kind of object.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The served name.
    pub model: &'a str,
    /// One for each prompt, or `n` for each; empty in the last event of a stream with usage.
    pub choices: Vec<C>,
    /// Absent in streams that did not ask for it, null in all of their events but the last where they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
    /// Equal fingerprints give equal answers.
    pub system_fingerprint: &'a str,
    /// Beside the usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<ResponseMetrics>,
}

/// Tokens of prompts and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Of all prompts, each once.
    pub prompt_tokens: usize,
    /// Of all answers, the end of sequence included.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
}

/// A choice of `/v1/completions`, whole or in a stream.
#[derive(Debug, Serialize)]
pub struct CompletionChoice {
    /// The answer, or more of it.
    pub text: String,
    /// The place of the prompt in the request, times `n`, plus the number of the choice.
    pub index: usize,
    /// Always null.
    pub logprobs: Option<()>,
    /// Null until the answer is complete.
    pub finish_reason: Option<&'static str>,
}

/// A choice of `/v1/chat/completions`.
#[derive(Debug, Serialize)]
pub struct ChatChoice {
    /// The number of the choice.
    pub index: usize,
    /// The answer.
    pub message: AssistantMessage,
    /// Always null.
    pub logprobs: Option<()>,
    /// Why it ended.
    pub finish_reason: Option<&'static str>,
}

/// The answer in a chat.
#[derive(Debug, Serialize)]
pub struct AssistantMessage {
    /// `assistant`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
    /// Always null.
    pub refusal: Option<()>,
}

/// A choice in a stream of `/v1/chat/completions`.
#[derive(Debug, Serialize)]
pub struct ChatChunkChoice {
    /// The number of the choice.
    pub index: usize,
    /// What is new.
    pub delta: Delta,
    /// Always null.
    pub logprobs: Option<()>,
    /// Null until the answer is complete.
    pub finish_reason: Option<&'static str>,
}

/// What is new in a chat: the role in the first event, then text, then nothing.
#[derive(Debug, Default, Serialize)]
pub struct Delta {
    /// `assistant`, in the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// `/v1/models`.
#[derive(Debug, Serialize)]
pub struct ModelList<'a> {
    /// `list`.
    pub object: &'static str,
    /// One.
    pub data: Vec<Model<'a>>,
}

/// A model in `/v1/models`.
#[derive(Debug, Serialize)]
pub struct Model<'a> {
    /// The served name.
    pub id: &'a str,
    /// `model`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// `cllm`.
    pub owned_by: &'static str,
    /// Tokens of prompt and answer together, under the name that vLLM gives it.
    pub max_model_len: usize,
}
