use serde_json::{Map, Value, json};

use super::*;
use cllm_engine::Sampling;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}

const SERVED: Served = Served { name: "served", vocabulary_size: 100 };

/// `extra` added to a request that is good without it.
fn completion(extra: Value) -> Result<ValidCompletion, ApiError> {
    let mut request = object(json!({"model": "served", "prompt": "select"}));
    request.extend(object(extra));
    ValidCompletion::check(&Fields::new(&request), SERVED)
}

fn chat(extra: Value) -> Result<ValidChat, ApiError> {
    let mut request = object(json!({"model": "served", "messages": [{"role": "user", "content": "hello"}]}));
    request.extend(object(extra));
    ValidChat::check(&Fields::new(&request), SERVED)
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
    let AnswerOptions { max_tokens, stops, sampling, stream, include_usage } = valid.options;
    assert_eq!((max_tokens, stops, stream, include_usage), (None, Vec::new(), false, false));
    assert_eq!(sampling.of_choices(None).collect::<Vec<_>>(), [Sampling::default()]);
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
        json!({"temperature": 1, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "seed": 7}),
        json!({"top_k": -1, "top_p": 1, "min_p": 0}),
        json!({"top_k": 0, "seed": 7}),
        json!({"top_k": 1}),
        json!({"logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "response_format": {"type": "text"}}),
        json!({"temperature": null, "max_tokens": null, "stop": null, "stream": null, "stream_options": null}),
        json!({"repetition_penalty": 1.0, "min_tokens": 0, "ignore_eos": false, "top_p": 1}),
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
fn sampling_out_of_range_is_refused_with_what_was_found_and_what_is_allowed() {
    let many: Map<_, _> = (0..=MAX_LOGIT_BIASES).map(|token| (token.to_string(), json!(1))).collect();
    for (field, value, found, allowed) in [
        ("temperature", json!(2.1), "2.1", "from 0 to 2"),
        ("temperature", json!(-0.1), "-0.1", "from 0 to 2"),
        ("temperature", json!("hot"), "hot", "a number"),
        ("top_p", json!(1.1), "1.1", "from 0 to 1"),
        ("top_p", json!(-1), "-1", "from 0 to 1"),
        ("top_k", json!(-2), "-2", "0 or -1"),
        ("top_k", json!(1.5), "1.5", "a whole number"),
        ("min_p", json!(1.01), "1.01", "from 0 to 1"),
        ("presence_penalty", json!(2.5), "2.5", "from -2 to 2"),
        ("frequency_penalty", json!(-2.5), "-2.5", "from -2 to 2"),
        ("repetition_penalty", json!(0), "0", "from 0.01 to 10"),
        ("repetition_penalty", json!(1e300), "1e", "from 0.01 to 10"),
        ("seed", json!(0.5), "0.5", "a whole number"),
        ("seed", json!(u64::MAX), "18446744073709551615", "64 bits"),
        ("n", json!(0), "0", "from 1 to 8"),
        ("n", json!(9), "9", "from 1 to 8"),
        ("n", json!(1.5), "1.5", "a whole number"),
        ("logit_bias", json!([1]), "a list", "an object"),
        ("logit_bias", json!({"3": 101}), "101 for token 3", "from -100 to 100"),
        ("logit_bias", json!({"3": null}), "null for token 3", "from -100 to 100"),
        ("logit_bias", json!({"100": 1}), "the token \"100\"", "below 100"),
        ("logit_bias", json!({"03": 1}), "the token \"03\"", "token ids"),
        ("logit_bias", json!({"cat": 1}), "the token \"cat\"", "token ids"),
        ("logit_bias", json!(many), "1025 entries", "up to 1024"),
    ] {
        let extra = json!({"temperature": 1, field: value});
        assert_eq!(refused_field(chat(extra.clone())), field, "chat {extra}");
        let message = completion(extra).unwrap_err().to_string();
        for part in [field, found, allowed] {
            assert!(message.contains(part), "no {part:?} in {message:?}");
        }
    }
}

#[test]
fn whoever_expects_sampling_is_not_answered_greedily_in_silence() {
    for (field, extra) in [
        ("top_p", json!({"top_p": 0.9})),
        ("top_k", json!({"top_k": 40, "seed": 1})),
        ("min_p", json!({"min_p": 0.1})),
        ("n", json!({"n": 2})),
        ("n", json!({"n": 2, "temperature": 0})),
    ] {
        assert_eq!(refused_field(completion(extra.clone())), field, "completion {extra}");
        assert_eq!(refused_field(chat(extra.clone())), field, "chat {extra}");
        assert!(completion(extra.clone()).unwrap_err().to_string().contains("temperature"), "{extra}");
    }
}

#[test]
fn sampling_is_read() {
    let sampling = |extra| completion(extra).unwrap().options.sampling;
    let full = sampling(json!({
        "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "presence_penalty": 0.25, "frequency_penalty": -0.5,
        "repetition_penalty": 1.5, "logit_bias": {"7": -100, "3": 2.5}, "seed": -1, "n": 3,
    }));
    let expected = |choice| Sampling {
        temperature: 0.5,
        top_k: std::num::NonZeroUsize::new(40),
        top_p: 0.9,
        min_p: 0.1,
        presence_penalty: 0.25,
        frequency_penalty: -0.5,
        repetition_penalty: 1.5,
        logit_bias: vec![(3, 2.5), (7, -100.0)],
        seed: u64::MAX,
        choice,
    };
    let seed = full.seed_or_else(|| 5);
    assert_eq!((full.choices(), seed), (3, Some(-1)));
    let mut choices: Vec<_> = full.of_choices(seed).collect();
    for choice in &mut choices {
        choice.logit_bias.sort_unstable_by_key(|(token, _)| *token);
    }
    assert_eq!(choices, [0, 1, 2].map(expected));

    for (extra, expected) in [
        (json!({}), None),
        (json!({"seed": 7}), None),
        (json!({"temperature": 0, "seed": 7}), None),
        (json!({"temperature": 1}), Some(5)),
        (json!({"temperature": 1, "seed": 7}), Some(7)),
    ] {
        assert_eq!(sampling(extra.clone()).seed_or_else(|| 5), expected, "{extra}");
    }
    let nothing_but_the_likeliest = sampling(json!({"temperature": 1, "top_p": 0}));
    assert!(nothing_but_the_likeliest.of_choices(None).all(|sampling| sampling.check(100).is_ok()));
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
