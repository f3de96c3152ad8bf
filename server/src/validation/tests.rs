use serde_json::{Map, Value, json};

use super::*;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}

/// `extra` added to a request that is good without it.
fn completion(extra: Value) -> Result<ValidCompletion, ApiError> {
    let mut request = object(json!({"model": "served", "prompt": "select"}));
    request.extend(object(extra));
    ValidCompletion::check(&Fields::new(&request), "served")
}

fn chat(extra: Value) -> Result<ValidChat, ApiError> {
    let mut request = object(json!({"model": "served", "messages": [{"role": "user", "content": "hello"}]}));
    request.extend(object(extra));
    ValidChat::check(&Fields::new(&request), "served")
}

fn refused_field<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    match result {
        Err(ApiError::InvalidField { field, message }) => {
            assert!(message.ends_with('.'), "{message} is no sentence");
            field
        }
        other => panic!("expected a refused field, got {other:?}"),
    }
}

#[test]
fn a_plain_completion() {
    let valid = completion(json!({})).unwrap();
    assert_eq!(valid.prompts, [PromptInput::Text("select".to_owned())]);
    let expected = AnswerOptions { max_tokens: None, stops: Vec::new(), stream: false, include_usage: false };
    assert_eq!(valid.options, expected);
}

#[test]
fn prompts_come_in_four_shapes() {
    let text = |text: &str| PromptInput::Text(text.to_owned());
    for (sent, expected) in [
        (json!("a"), vec![text("a")]),
        (json!([3, 1, 2]), vec![PromptInput::Tokens(vec![3, 1, 2])]),
        (json!(["a", "b"]), vec![text("a"), text("b")]),
        (json!([[1], [2, 3]]), vec![PromptInput::Tokens(vec![1]), PromptInput::Tokens(vec![2, 3])]),
    ] {
        assert_eq!(completion(json!({"prompt": sent})).unwrap().prompts, expected, "{sent}");
    }
}

#[test]
fn values_that_ask_for_nothing_and_unknown_fields_are_accepted() {
    for extra in [
        json!({"temperature": 0, "top_p": 0.9, "n": 1, "seed": 7, "user": "someone", "made_up": {"a": [1]}}),
        json!({"logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "response_format": {"type": "text"}}),
        json!({"temperature": null, "max_tokens": null, "stop": null, "stream": null, "stream_options": null}),
        json!({"top_k": 40, "min_p": 0.1, "repetition_penalty": 1.0, "min_tokens": 0, "ignore_eos": false, "top_p": 1}),
    ] {
        completion(extra.clone()).unwrap_or_else(|error| panic!("completion {extra}: {error}"));
        chat(extra.clone()).unwrap_or_else(|error| panic!("chat {extra}: {error}"));
    }
    completion(json!({"best_of": 1, "echo": false, "suffix": ""})).unwrap();
    chat(json!({"logprobs": false, "top_logprobs": 0, "tools": [], "tool_choice": "none", "modalities": ["text"]}))
        .unwrap();
}

#[test]
fn both_refuse_by_name_what_is_not_honored() {
    for (field, value) in [
        ("n", json!(2)),
        ("temperature", json!(0.7)),
        ("temperature", json!(1)),
        ("temperature", json!("hot")),
        ("top_p", json!(0.5)),
        ("logit_bias", json!({"3": 5})),
        ("presence_penalty", json!(0.1)),
        ("frequency_penalty", json!(-1)),
        ("repetition_penalty", json!(1.2)),
        ("response_format", json!({"type": "json_object"})),
        ("ignore_eos", json!(true)),
        ("min_tokens", json!(3)),
        ("guided_json", json!({})),
        ("stop", json!(7)),
        ("stop", json!(["a", 7])),
        ("stop", json!("")),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("stop", json!("x".repeat(MAX_STOP_BYTES + 1))),
        ("stream", json!("yes")),
        ("stream_options", json!({"include_usage": true})),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(1.5)),
        ("model", json!(7)),
        ("model", Value::Null),
    ] {
        let extra = json!({field: value});
        assert_eq!(refused_field(completion(extra.clone())), field, "completion {extra}");
        assert_eq!(refused_field(chat(extra.clone())), field, "chat {extra}");
    }
}

#[test]
fn completions_refuse_by_name() {
    for (field, value) in [
        ("best_of", json!(2)),
        ("echo", json!(true)),
        ("suffix", json!("end")),
        ("logprobs", json!(0)),
        ("prompt", Value::Null),
        ("prompt", json!([])),
        ("prompt", json!({})),
        ("prompt", json!([1, -1])),
        ("prompt", json!([1, "a"])),
        ("prompt", json!(["a", null])),
        ("prompt", json!(vec!["a"; MAX_PROMPTS + 1])),
    ] {
        let extra = json!({field: value});
        assert_eq!(refused_field(completion(extra.clone())), field, "{extra}");
    }
    completion(json!({"prompt": vec!["a"; MAX_PROMPTS]})).unwrap();
    completion(json!({"prompt": vec![1; MAX_PROMPTS + 1]})).unwrap();
}

#[test]
fn chats_refuse_by_name() {
    let content = |content: Value| json!([{"role": "user", "content": content}]);
    for (field, name, value) in [
        ("logprobs", "logprobs", json!(true)),
        ("tools", "tools", json!([{"type": "function"}])),
        ("tool_choice", "tool_choice", json!("required")),
        ("modalities", "modalities", json!(["text", "audio"])),
        ("max_completion_tokens", "max_completion_tokens", json!(0)),
        ("messages", "messages", Value::Null),
        ("messages", "messages", json!([])),
        ("messages", "messages", json!("hello")),
        ("messages[0]", "messages", json!(["hello"])),
        ("messages[0].role", "messages", json!([{"role": "tool", "content": "x"}])),
        ("messages[0].content", "messages", json!([{"role": "user"}])),
        ("messages[0].content", "messages", content(json!(7))),
        ("messages[0].content", "messages", content(json!([{"type": "image_url"}]))),
        ("messages[0].content", "messages", content(json!([{"type": "text"}]))),
        ("messages[0].tool_calls", "messages", json!([{"role": "assistant", "content": "x", "tool_calls": [{}]}])),
    ] {
        let extra = json!({name: value});
        assert_eq!(refused_field(chat(extra.clone())), field, "{extra}");
    }
}

#[test]
fn content_parts_are_joined_and_developer_is_system() {
    let valid = chat(json!({"messages": [
        {"role": "developer", "content": "short"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "someone"},
    ]}))
    .unwrap();
    let found: Vec<_> =
        valid.messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
    assert_eq!(found, [("system", "short"), ("user", "ab")]);
}

#[test]
fn options_are_read() {
    let valid = chat(json!({
        "max_completion_tokens": 5, "max_tokens": 9, "stop": "\n", "stream": true, "stream_options": {"include_usage": true},
    }));
    let options = valid.unwrap().options;
    assert_eq!((options.max_tokens, options.stream, options.include_usage), (Some(5), true, true));
    assert_eq!(options.stops, ["\n"]);
    assert_eq!(completion(json!({"max_tokens": 9})).unwrap().options.max_tokens, Some(9));
}

#[test]
fn another_model_is_not_found() {
    assert!(
        matches!(completion(json!({"model": "other"})), Err(ApiError::ModelNotFound { asked, .. }) if asked == "other")
    );
}

#[test]
fn the_answer_must_fit() {
    let too_long = |prompt, max_tokens| ApiError::ContextLength { field: "prompt", prompt, max_tokens, context: 10 };
    for (prompt, asked, default, expected) in [
        (4, Some(6), None, Ok(6)),
        (4, Some(7), None, Err(too_long(4, 7))),
        (4, None, None, Ok(6)),
        (4, None, Some(3), Ok(3)),
        (9, None, Some(3), Ok(1)),
        (10, None, None, Err(too_long(10, 1))),
        (11, Some(1), None, Err(too_long(11, 1))),
    ] {
        assert_eq!(answer_length("prompt", prompt, asked, default, 10), expected, "{prompt} {asked:?} {default:?}");
    }
}
