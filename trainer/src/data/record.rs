//! From one record to a prompt and a completion. Pure but for the tokenizer's template.

use cllm_engine::tokenizer::{Message, Tokenizer};
use serde_json::{Map, Value};

use super::{Example, Fields};

/// The text of a record, before there is a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Pair { prompt: String, completion: String },
    Chat(Vec<Message>),
}

type Parsed<T> = std::result::Result<T, String>;

impl Content {
    /// Finds the fields of a record: prompt and completion as texts or both as messages, or one list of messages.
    pub(super) fn find(record: Value, fields: &Fields) -> Parsed<Self> {
        let Value::Object(mut record) = record else {
            return Err(format!("it is {}, not an object with fields", kind(&record)));
        };
        match (record.remove(&fields.prompt_field), record.remove(&fields.completion_field)) {
            (Some(Value::String(prompt)), Some(Value::String(completion))) => Ok(Self::Pair { prompt, completion }),
            (Some(Value::Array(prompt)), Some(Value::Array(completion))) => {
                messages(Value::Array([prompt, completion].concat())).map(Self::Chat)
            }
            (Some(prompt), Some(completion)) => Err(format!(
                "`{}` is {} and `{}` is {}: both must be texts, or both lists of messages",
                fields.prompt_field,
                kind(&prompt),
                fields.completion_field,
                kind(&completion)
            )),
            (prompt, completion) => match record.remove(&fields.messages_field) {
                Some(found) => messages(found).map(Self::Chat),
                None => Err(missing(&record, fields, prompt.is_some(), completion.is_some())),
            },
        }
    }

    /// Renders messages by the template of the model.
    pub(super) fn example(self, tokenizer: &Tokenizer) -> Parsed<Example> {
        let example = match self {
            Self::Pair { prompt, completion } => Example { prompt, completion },
            Self::Chat(messages) => from_chat(&messages, tokenizer)?,
        };
        if example.prompt.is_empty() { Err("the prompt is empty".to_owned()) } else { Ok(example) }
    }

    /// All texts.
    pub(super) fn texts(self) -> Vec<String> {
        match self {
            Self::Pair { prompt, completion } => vec![prompt, completion],
            Self::Chat(messages) => messages.into_iter().map(|message| message.content).collect(),
        }
    }
}

fn messages(value: Value) -> Parsed<Vec<Message>> {
    serde_json::from_value(value)
        .map_err(|error| format!("its messages are not objects with the texts `role` and `content` ({error})"))
}

fn from_chat(messages: &[Message], tokenizer: &Tokenizer) -> Parsed<Example> {
    match messages.split_last() {
        Some((last, before)) if last.role == "assistant" && !before.is_empty() => Ok(Example {
            prompt: tokenizer.chat_prompt(before).map_err(|error| error.to_string())?,
            completion: last.content.clone(),
        }),
        _ => Err("the messages must be at least a user's and end with one whose role is `assistant`".to_owned()),
    }
}

fn missing(record: &Map<String, Value>, fields: &Fields, has_prompt: bool, has_completion: bool) -> String {
    let Fields { prompt_field, completion_field, messages_field } = fields;
    let mut found: Vec<String> = record.keys().map(|name| format!("`{name}`")).collect();
    found.extend(has_prompt.then(|| format!("`{prompt_field}`")));
    found.extend(has_completion.then(|| format!("`{completion_field}`")));
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    format!(
        "it has neither `{prompt_field}` and `{completion_field}` nor `{messages_field}` (its fields: {found}); \
         say what they are called by --prompt-field, --completion-field or --messages-field"
    )
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_by_their_names() {
        let fields = |prompt: &str, completion: &str| Fields {
            prompt_field: prompt.to_owned(),
            completion_field: completion.to_owned(),
            ..Fields::default()
        };
        let pair = |prompt: &str, completion: &str| {
            Some(Content::Pair { prompt: prompt.to_owned(), completion: completion.to_owned() })
        };
        let (user, assistant) = (json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": "a"}));
        let chat = Content::find(json!({"messages": [user, assistant]}), &Fields::default()).ok();
        assert!(matches!(&chat, Some(Content::Chat(messages)) if messages.len() == 2));
        for (record, fields, expected) in [
            (json!({"prompt": "q", "completion": "a", "id": 7}), Fields::default(), pair("q", "a")),
            (json!({"question": "q", "answer": "a"}), fields("question", "answer"), pair("q", "a")),
            (json!({"prompt": [user], "completion": [assistant]}), Fields::default(), chat),
            (json!({"question": "q", "answer": "a"}), Fields::default(), None),
            (json!({"prompt": "q", "completion": 7}), Fields::default(), None),
            (json!({"prompt": "q"}), Fields::default(), None),
            (json!({"messages": [{"role": "user"}]}), Fields::default(), None),
            (json!(["q", "a"]), Fields::default(), None),
        ] {
            assert_eq!(Content::find(record.clone(), &fields).ok(), expected, "{record}");
        }
    }

    #[test]
    fn problems_say_what_was_found() {
        for (record, said) in [
            (json!(7), "it is a number"),
            (json!({"question": "q", "answer": "a"}), "(its fields: `question`, `answer`)"),
            (json!({"prompt": "q", "completion": 7}), "`completion` is a number"),
            (json!({}), "(its fields: none)"),
        ] {
            let problem = Content::find(record.clone(), &Fields::default()).unwrap_err();
            assert!(problem.contains(said), "{record}: {problem}");
        }
    }
}
