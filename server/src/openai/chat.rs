//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{
    Dialect, Question, encode,
    extract::JsonObject,
    respond, served,
    types::{AssistantMessage, ChatChoice, ChatChunkChoice, Delta},
};
use crate::{
    backend::FinishReason,
    error::ApiError,
    state::App,
    validation::{Fields, ValidChat, answer_length},
};

const ASSISTANT: &str = "assistant";

/// Answers a conversation. Without a maximum the answer may be as long as the context.
pub async fn create(State(app): State<Arc<App>>, JsonObject(object): JsonObject) -> Result<Response, ApiError> {
    let loaded = app.serving()?;
    let ValidChat { messages, options } = ValidChat::check(&Fields::new(&object), served(&app, loaded))?;
    let encoded = move |text: &dyn crate::backend::Text| {
        text.encode_chat(&messages).map_err(|message| ApiError::field("messages", format!("{message}.")))
    };
    let tokens = encode(&loaded.text, encoded).await?;
    let context = loaded.description.context_length;
    let max_tokens = answer_length("messages", tokens.len(), options.max_tokens, None, context)?;
    respond::<Chat>(&app, loaded, &[Question { tokens, max_tokens }], &options).await
}

struct Chat;

impl Dialect for Chat {
    const ID_PREFIX: &'static str = "chatcmpl";
    const OBJECT: &'static str = "chat.completion";
    const CHUNK_OBJECT: &'static str = "chat.completion.chunk";
    type Choice = ChatChoice;
    type ChunkChoice = ChatChunkChoice;

    fn choice(index: usize, text: String, reason: FinishReason) -> ChatChoice {
        let message = AssistantMessage { role: ASSISTANT, content: text, refusal: None };
        ChatChoice { index, message, logprobs: None, finish_reason: Some(reason.as_str()) }
    }

    fn opening(index: usize) -> Option<ChatChunkChoice> {
        let delta = Delta { role: Some(ASSISTANT), content: Some(String::new()) };
        Some(ChatChunkChoice { index, delta, logprobs: None, finish_reason: None })
    }

    fn text(index: usize, text: String) -> ChatChunkChoice {
        let delta = Delta { role: None, content: Some(text) };
        ChatChunkChoice { index, delta, logprobs: None, finish_reason: None }
    }

    fn closing(index: usize, reason: FinishReason) -> ChatChunkChoice {
        ChatChunkChoice { index, delta: Delta::default(), logprobs: None, finish_reason: Some(reason.as_str()) }
    }
}
