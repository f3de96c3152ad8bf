//! The fields of the OpenAI API, and of servers like this one, that are known here and not honored: each with the values
//! that ask for nothing, so that they may be sent all the same.

use serde_json::Value;

use super::{Fields, fields::kind};
use crate::error::ApiError;

/// A field that is not honored.
pub(super) struct Unsupported {
    name: &'static str,
    /// The value asks for nothing that is not done anyway.
    is_neutral: fn(&Value) -> bool,
    /// What may be sent, as the end of a sentence.
    allowed: &'static str,
}

const fn field(name: &'static str, is_neutral: fn(&Value) -> bool, allowed: &'static str) -> Unsupported {
    Unsupported { name, is_neutral, allowed }
}

/// Only of `/v1/completions`.
pub(super) const COMPLETIONS: &[Unsupported] = &[
    field("best_of", is_one, "1, as answers are not ranked"),
    field("echo", is_false, "false: the prompt is not repeated"),
    field("suffix", is_empty_text, "absent: text is not inserted"),
    field("logprobs", never, "absent: log probabilities are not given"),
];

/// Only of `/v1/chat/completions`.
pub(super) const CHAT: &[Unsupported] = &[
    field("logprobs", is_false, "false: log probabilities are not given"),
    field("top_logprobs", is_zero, "0: log probabilities are not given"),
    field("tools", is_empty, "absent: tools are not called"),
    field("tool_choice", is_no_tool, "\"none\" or \"auto\": tools are not called"),
    field("functions", is_empty, "absent: functions are not called"),
    field("function_call", is_no_tool, "\"none\" or \"auto\": functions are not called"),
    field("modalities", is_text_only, "[\"text\"]"),
    field("audio", never, "absent: answers are text"),
];

/// Of both.
const BOTH: &[Unsupported] = &[
    field("response_format", is_text_format, "{\"type\": \"text\"}: answers are not constrained"),
    field("ignore_eos", is_false, "false: an answer ends where the model ends it"),
    field("min_tokens", is_zero, "0: an answer ends where the model ends it"),
    field("use_beam_search", is_false, "false: answers are not searched for"),
    field("prompt_logprobs", never, "absent: log probabilities are not given"),
    field("guided_json", never, "absent: answers are not constrained"),
    field("guided_regex", never, "absent: answers are not constrained"),
    field("guided_choice", never, "absent: answers are not constrained"),
    field("guided_grammar", never, "absent: answers are not constrained"),
    field("structured_outputs", never, "absent: answers are not constrained"),
    field("grammar", never, "absent: answers are not constrained"),
];

/// The first field that asks for something that is not done.
pub(super) fn check(fields: &Fields, own: &[Unsupported]) -> Result<(), ApiError> {
    for unsupported in own.iter().chain(BOTH) {
        let Some(value) = fields.get(unsupported.name) else { continue };
        if !(unsupported.is_neutral)(value) {
            let Unsupported { name, allowed, .. } = unsupported;
            return Err(ApiError::field(*name, format!("{name} is {}, but it must be {allowed}.", kind(value))));
        }
    }
    Ok(())
}

fn never(_: &Value) -> bool {
    false
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_empty_text(value: &Value) -> bool {
    value.as_str() == Some("")
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn is_no_tool(value: &Value) -> bool {
    matches!(value.as_str(), Some("none" | "auto"))
}

fn is_text_only(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(|item| item == "text"))
}

fn is_text_format(value: &Value) -> bool {
    value.get("type").and_then(Value::as_str) == Some("text")
}
