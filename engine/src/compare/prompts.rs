//! A line of a file with prompts.

use serde_json::Value;

use crate::tokenizer::Tokenizer;

/// The tokens of the prompt of a line of JSON: an object with `prompt`, or with `messages` whose last answer is left out. The error says
/// what is wrong, without a full stop.
pub fn prompt_tokens(tokenizer: &Tokenizer, line: &str) -> Result<Vec<u32>, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("is not JSON: {error}"))?;
    let tokens = match (value.get("prompt"), value.get("messages")) {
        (Some(Value::String(prompt)), None) => tokenizer.encode(prompt),
        (None, Some(Value::Array(messages))) => tokenizer
            .chat_prompt(without_answer(messages))
            .and_then(|prompt| tokenizer.encode_without_special_tokens(&prompt)),
        _ => return Err("needs a string \"prompt\" or a list \"messages\"".to_owned()),
    };
    tokens.map_err(|error| error.to_string())
}

fn without_answer(messages: &[Value]) -> &[Value] {
    match messages {
        [before @ .., last] if last.get("role").and_then(Value::as_str) == Some("assistant") => before,
        all => all,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_answer_is_not_part_of_the_prompt() {
        let (user, assistant) = (json!({"role": "user"}), json!({"role": "assistant"}));
        for (messages, expected) in [
            (vec![user.clone()], 1),
            (vec![user.clone(), assistant.clone()], 1),
            (vec![user.clone(), assistant, user], 3),
        ] {
            assert_eq!(without_answer(&messages).len(), expected);
        }
    }
}
