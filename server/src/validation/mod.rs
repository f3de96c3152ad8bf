//! From a lenient JSON object to a checked request. Unknown fields are accepted; a field that is known and would not be
//! honored is refused by name, never ignored in silence. Knows nothing of HTTP.

mod fields;
mod sampling;
mod unsupported;

pub use fields::Fields;
pub use sampling::{MAX_CHOICES, MAX_LOGIT_BIASES, ValidSampling};

use serde_json::Value;

use crate::{backend::ChatMessage, error::ApiError};

/// Most prompts of one completion request.
pub const MAX_PROMPTS: usize = 64;
/// Most stop strings, as in the OpenAI API.
pub const MAX_STOPS: usize = 4;
/// Most bytes of a stop string.
pub const MAX_STOP_BYTES: usize = 1024;

/// The model that a request must be for.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// Its name in the API.
    pub name: &'a str,
    /// Token ids are below this.
    pub vocabulary_size: usize,
}

/// A request to `/v1/completions`.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidCompletion {
    /// At least one.
    pub prompts: Vec<PromptInput>,
    /// How to answer.
    pub options: AnswerOptions,
}

/// A request to `/v1/chat/completions`.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidChat {
    /// At least one.
    pub messages: Vec<ChatMessage>,
    /// How to answer.
    pub options: AnswerOptions,
}

/// A prompt as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptInput {
    /// To be encoded.
    Text(String),
    /// Encoded by the client; not checked against the vocabulary yet.
    Tokens(Vec<u32>),
}

/// What both routes have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerOptions {
    /// At least 1 where given.
    pub max_tokens: Option<usize>,
    /// None is empty.
    pub stops: Vec<String>,
    /// How tokens are drawn, and how many answers each prompt gets.
    pub sampling: ValidSampling,
    /// Server-sent events instead of one object.
    pub stream: bool,
    /// A last event with the usage.
    pub include_usage: bool,
}

impl ValidCompletion {
    /// Checks a request for the model `served`.
    pub fn check(fields: &Fields, served: Served) -> Result<Self, ApiError> {
        check_model(fields, served.name)?;
        unsupported::check(fields, unsupported::COMPLETIONS)?;
        Ok(Self { prompts: prompts(fields)?, options: options(fields, &["max_tokens"], served)? })
    }
}

impl ValidChat {
    /// Checks a request for the model `served`.
    pub fn check(fields: &Fields, served: Served) -> Result<Self, ApiError> {
        check_model(fields, served.name)?;
        unsupported::check(fields, unsupported::CHAT)?;
        Ok(Self {
            messages: messages(fields)?,
            options: options(fields, &["max_completion_tokens", "max_tokens"], served)?,
        })
    }
}

/// The length of an answer: what was asked for, `default`, or what is left of the context.
pub fn answer_length(
    field: &'static str,
    prompt: usize,
    asked: Option<usize>,
    default: Option<usize>,
    context: usize,
) -> Result<usize, ApiError> {
    let left = context.saturating_sub(prompt);
    match asked {
        Some(max_tokens) if max_tokens <= left => Ok(max_tokens),
        None if left > 0 => Ok(default.map_or(left, |default| default.min(left))),
        _ => Err(ApiError::ContextLength { field, prompt, max_tokens: asked.unwrap_or(1), context }),
    }
}

fn check_model(fields: &Fields, served: &str) -> Result<(), ApiError> {
    match fields.text("model")? {
        Some(asked) if asked == served => Ok(()),
        Some(asked) => Err(ApiError::ModelNotFound { asked: asked.to_owned(), served: served.to_owned() }),
        None => Err(ApiError::field("model", format!("model is missing. Send {served:?}."))),
    }
}

fn options(fields: &Fields, length_fields: &[&str], served: Served) -> Result<AnswerOptions, ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let stream_options = fields.object("stream_options")?;
    if stream_options.is_some() && !stream {
        return Err(ApiError::field("stream_options", "stream_options is only allowed with stream: true."));
    }
    let include_usage = match stream_options {
        Some(inner) => inner.boolean("include_usage")?.unwrap_or(false),
        None => false,
    };
    Ok(AnswerOptions {
        max_tokens: max_tokens(fields, length_fields)?,
        stops: stops(fields)?,
        sampling: ValidSampling::check(fields, served.vocabulary_size)?,
        stream,
        include_usage,
    })
}

fn max_tokens(fields: &Fields, names: &[&str]) -> Result<Option<usize>, ApiError> {
    for name in names {
        match fields.count(name)? {
            Some(0) => {
                return Err(ApiError::field(*name, format!("{name} is 0, but at least 1 token must be allowed.")));
            }
            Some(count) => return Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
            None => {}
        }
    }
    Ok(None)
}

fn stops(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let refuse = |found: String| {
        let allowed = format!("a string or up to {MAX_STOPS} strings of 1 to {MAX_STOP_BYTES} bytes");
        ApiError::field("stop", format!("stop {found}, but it must be {allowed}."))
    };
    let stops: Vec<&str> = match fields.get("stop") {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| item.as_str().ok_or_else(|| refuse(format!("contains {item}"))))
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(refuse(format!("is {other}"))),
    };
    if stops.len() > MAX_STOPS {
        return Err(refuse(format!("has {} strings", stops.len())));
    }
    match stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
        Some(stop) => Err(refuse(format!("contains a string of {} bytes", stop.len()))),
        None => Ok(stops.into_iter().map(str::to_owned).collect()),
    }
}

fn prompts(fields: &Fields) -> Result<Vec<PromptInput>, ApiError> {
    const ALLOWED: &str = "a string, a list of token ids, or a list of up to 64 of these";
    let refuse = |found: &str| ApiError::field("prompt", format!("prompt {found}, but it must be {ALLOWED}."));
    let list = match fields.get("prompt") {
        None => return Err(refuse("is missing")),
        Some(Value::String(text)) => return Ok(vec![PromptInput::Text(text.clone())]),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(refuse(&format!("is {}", fields::kind(other)))),
    };
    if list.is_empty() {
        return Err(refuse("is an empty list"));
    }
    if list.iter().all(Value::is_number) {
        return Ok(vec![PromptInput::Tokens(token_ids(list)?)]);
    }
    if list.len() > MAX_PROMPTS {
        return Err(refuse(&format!("has {} entries", list.len())));
    }
    list.iter()
        .map(|entry| match entry {
            Value::String(text) => Ok(PromptInput::Text(text.clone())),
            Value::Array(ids) => Ok(PromptInput::Tokens(token_ids(ids)?)),
            other => Err(refuse(&format!("contains {}", fields::kind(other)))),
        })
        .collect()
}

fn token_ids(list: &[Value]) -> Result<Vec<u32>, ApiError> {
    list.iter()
        .map(|id| {
            id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                ApiError::field(
                    "prompt",
                    format!("prompt contains {id}, which is no token id (a whole number from 0)."),
                )
            })
        })
        .collect()
}

fn messages(fields: &Fields) -> Result<Vec<ChatMessage>, ApiError> {
    match fields.get("messages") {
        Some(Value::Array(list)) if !list.is_empty() => list.iter().enumerate().map(message).collect(),
        Some(Value::Array(_)) => {
            Err(ApiError::field("messages", "messages is empty, but at least one message is needed."))
        }
        Some(other) => {
            let found = fields::kind(other);
            Err(ApiError::field("messages", format!("messages is {found}, but it must be a list of messages.")))
        }
        None => {
            Err(ApiError::field("messages", "messages is missing. Send [{\"role\": \"user\", \"content\": \"…\"}]."))
        }
    }
}

fn message((index, value): (usize, &Value)) -> Result<ChatMessage, ApiError> {
    let name = |field: &str| format!("messages[{index}]{field}");
    let Value::Object(object) = value else {
        let found = fields::kind(value);
        return Err(ApiError::field(name(""), format!("{} is {found}, but a message is an object.", name(""))));
    };
    let role = match object.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        other => {
            let found = other.map_or_else(|| "missing or no string".to_owned(), |role| format!("{role:?}"));
            let allowed = "system, developer, user or assistant";
            return Err(ApiError::field(
                name(".role"),
                format!("{} is {found}, but it must be {allowed}.", name(".role")),
            ));
        }
    };
    let unused = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if object.get("tool_calls").is_some_and(|calls| !unused(calls)) {
        return Err(ApiError::field(name(".tool_calls"), "tool calls are not supported by this server."));
    }
    Ok(ChatMessage { role: role.to_owned(), content: content(object.get("content"), &name(".content"))? })
}

fn content(value: Option<&Value>, field: &str) -> Result<String, ApiError> {
    let refuse = |found: &str| {
        let allowed = "a string or a list of parts {\"type\": \"text\", \"text\": \"…\"}";
        ApiError::field(field, format!("{field} {found}, but it must be {allowed}."))
    };
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
                (Some("text"), Some(text)) => Ok(text),
                (Some("text"), None) => Err(refuse("has a text part without text")),
                (Some(other), _) => Err(refuse(&format!("has a part of type {other:?}"))),
                (None, _) => Err(refuse("has a part without a type")),
            })
            .collect(),
        None | Some(Value::Null) => Err(refuse("is missing")),
        Some(other) => Err(refuse(&format!("is {}", fields::kind(other)))),
    }
}

#[cfg(test)]
mod tests;
