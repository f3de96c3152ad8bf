//! `POST /v1/completions`.

use std::sync::Arc;

use axum::{extract::State, response::Response};

use super::{Dialect, Question, encode, extract::JsonObject, respond, served, types::CompletionChoice};
use crate::{
    backend::{FinishReason, Text},
    error::ApiError,
    state::{App, Loaded},
    validation::{AnswerOptions, Fields, PromptInput, ValidCompletion, answer_length},
};

/// As in the OpenAI API.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Continues one or several prompts.
pub async fn create(State(app): State<Arc<App>>, JsonObject(object): JsonObject) -> Result<Response, ApiError> {
    let loaded = app.serving()?;
    let ValidCompletion { prompts, options } = ValidCompletion::check(&Fields::new(&object), served(&app, loaded))?;
    if prompts.len() > loaded.worker.capacity() {
        let (sent, allowed) = (prompts.len(), loaded.worker.capacity());
        return Err(ApiError::field(
            "prompt",
            format!("prompt has {sent} entries, but this server takes {allowed} at once."),
        ));
    }
    let encode_all =
        |text: &dyn Text| prompts.into_iter().map(|prompt| tokens(text, prompt)).collect::<Result<Vec<_>, _>>();
    let encoded = encode(&loaded.text, encode_all).await?;
    let questions = encoded.into_iter().map(|tokens| fit(loaded, tokens, &options)).collect::<Result<Vec<_>, _>>()?;
    respond::<Completions>(&app, loaded, &questions, &options).await
}

fn tokens(text: &dyn Text, prompt: PromptInput) -> Result<Vec<u32>, ApiError> {
    let tokens = match prompt {
        PromptInput::Text(content) => {
            text.encode(&content).map_err(|message| ApiError::field("prompt", format!("{message}.")))?
        }
        PromptInput::Tokens(ids) => ids,
    };
    let size = text.vocabulary_size();
    match tokens.iter().find(|id| **id as usize >= size) {
        Some(id) => Err(ApiError::field(
            "prompt",
            format!("prompt has the token id {id}, but the vocabulary has {size} tokens."),
        )),
        None if tokens.is_empty() => {
            Err(ApiError::field("prompt", "prompt is empty, but at least one token is needed."))
        }
        None => Ok(tokens),
    }
}

fn fit(loaded: &Loaded, tokens: Vec<u32>, options: &AnswerOptions) -> Result<Question, ApiError> {
    let context = loaded.description.context_length;
    let max_tokens = answer_length("prompt", tokens.len(), options.max_tokens, Some(DEFAULT_MAX_TOKENS), context)?;
    Ok(Question { tokens, max_tokens })
}

struct Completions;

impl Dialect for Completions {
    const ID_PREFIX: &'static str = "cmpl";
    const OBJECT: &'static str = "text_completion";
    const CHUNK_OBJECT: &'static str = "text_completion";
    type Choice = CompletionChoice;
    type ChunkChoice = CompletionChoice;

    fn choice(index: usize, text: String, reason: FinishReason) -> CompletionChoice {
        CompletionChoice { text, index, logprobs: None, finish_reason: Some(reason.as_str()) }
    }

    fn opening(_: usize) -> Option<CompletionChoice> {
        None
    }

    fn text(index: usize, text: String) -> CompletionChoice {
        CompletionChoice { text, index, logprobs: None, finish_reason: None }
    }

    fn closing(index: usize, reason: FinishReason) -> CompletionChoice {
        CompletionChoice { text: String::new(), index, logprobs: None, finish_reason: Some(reason.as_str()) }
    }
}
