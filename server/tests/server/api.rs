//! The routes and the shapes of their answers.

use serde_json::{Value, json};

use crate::support::{MODEL, Server, chat, chat_text, completion, completion_text};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn models() {
    let (server, _) = Server::scripted(&[]).await;
    let list: Value = server.get("/v1/models").await.json().await.unwrap();
    assert_eq!(list["object"], "list");
    let one: Value = server.get(&format!("/v1/models/{MODEL}")).await.json().await.unwrap();
    assert_eq!(list["data"], json!([one]));
    assert_eq!((one["id"].as_str(), one["object"].as_str()), (Some(MODEL), Some("model")));
    assert_eq!(one["max_model_len"], 100_000);
    assert!(one["created"].as_u64().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn a_completion() {
    let (server, _) = Server::scripted(&[]).await;
    let mut answer = server.answer(COMPLETIONS, &completion("1234567", &json!({}))).await;
    let answer = answer.as_object_mut().unwrap();
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    answer.remove("id");
    answer.remove("created");
    let fingerprint = format!("cllm-{}-scripted", env!("CARGO_PKG_VERSION"));
    let expected = json!({
        "object": "text_completion", "model": MODEL, "system_fingerprint": fingerprint,
        "choices": [{"text": "1234567", "index": 0, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14},
        "metrics": {
            "tokens_per_forward": 3.0,
            "speculative_decoding": {
                "mean_acceptance_length": 3.0, "draft_acceptance_rate": 4.0 / 6.0, "num_spec_steps": 2,
                "num_accepted_draft_tokens": 4, "num_draft_tokens": 6, "num_spec_tokens": 3,
            },
        },
    });
    assert_eq!(Value::Object(answer.clone()), expected);
}

#[tokio::test]
async fn a_completion_has_16_tokens_unless_asked_and_a_chat_as_many_as_fit() {
    let (server, _) = Server::scripted(&[]).await;
    let long = "a".repeat(50);
    for (extra, length) in [(json!({}), 16), (json!({"max_tokens": 20}), 20)] {
        let answer = server.answer(COMPLETIONS, &completion(long.as_str(), &extra)).await;
        assert_eq!(answer["choices"][0]["text"], "a".repeat(length), "{extra}");
        assert_eq!(answer["choices"][0]["finish_reason"], "length", "{extra}");
        assert_eq!(answer["usage"]["completion_tokens"], length, "{extra}");
    }
    let answer = server.answer(CHAT, &chat(&long, &json!({}))).await;
    assert_eq!(answer["choices"][0]["message"]["content"], long);
}

#[tokio::test]
async fn a_list_of_prompts_has_a_choice_each() {
    let (server, _) = Server::scripted(&["--max-concurrent-requests=2"]).await;
    let body = completion(json!(["one", "two", "three"]), &json!({}));
    let answer = server.answer(COMPLETIONS, &body).await;
    let texts: Vec<_> = answer["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert_eq!(answer["usage"]["total_tokens"], 22);

    let body = completion(json!(["one", "two", "three"]), &json!({"stream": true}));
    let events = server.events(COMPLETIONS, &body).await;
    assert_eq!([0, 1, 2].map(|index| completion_text(&events, index)), ["one", "two", "three"]);

    let answer = server.answer(COMPLETIONS, &completion(json!([104, 105]), &json!({}))).await;
    assert_eq!(answer["choices"][0]["text"], "hi");
}

#[tokio::test]
async fn a_chat() {
    let (server, _) = Server::scripted(&[]).await;
    let answer = server.answer(CHAT, &chat("grüße", &json!({"temperature": 0}))).await;
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["object"], "chat.completion");
    let message = json!({"role": "assistant", "content": "grüße", "refusal": null});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14}));
}

#[tokio::test]
async fn a_streamed_chat() {
    let (server, _) = Server::scripted(&[]).await;
    let extra = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = server.events(CHAT, &chat("grüße", &extra)).await;
    let [first, .., closing, last] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(chat_text(&events), "grüße");
    assert_eq!(closing["choices"], json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}]));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 14);
    assert_eq!(last["metrics"]["tokens_per_forward"], 3.0);
    for event in &events {
        assert_eq!((&event["id"], &event["object"]), (&first["id"], &json!("chat.completion.chunk")), "{event}");
        let others = event != last;
        assert!(!others || event.as_object().unwrap().get("usage") == Some(&Value::Null), "{event}");
    }
}

#[tokio::test]
async fn a_streamed_completion_without_usage() {
    let (server, _) = Server::scripted(&[]).await;
    let events = server.events(COMPLETIONS, &completion("1234567", &json!({"stream": true}))).await;
    let texts: Vec<_> = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["1", "234", "567", ""]);
    let reasons: Vec<_> = events.iter().map(|event| &event["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &Value::Null, &Value::Null, &json!("stop")]);
    assert!(events.iter().all(|event| event.get("usage").is_none() && event["object"] == "text_completion"));
}

#[tokio::test]
async fn stop_strings_across_forwards_never_leak() {
    let (server, _) = Server::scripted(&[]).await;
    for (stop, expected) in [
        (json!("56"), "1234"),
        (json!(["89", "456"]), "123"),
        (json!("üß"), "12345678ü"),
        (json!("8ü"), "1234567"),
        (json!("nothing"), "12345678ü"),
    ] {
        let extra = json!({"stop": stop});
        let whole = server.answer(COMPLETIONS, &completion("12345678ü", &extra)).await;
        assert_eq!(whole["choices"][0]["text"], expected, "{stop}");
        let extra = json!({"stop": stop, "stream": true});
        let events = server.events(COMPLETIONS, &completion("12345678ü", &extra)).await;
        assert_eq!(completion_text(&events, 0), expected, "{stop}");
    }
}

#[tokio::test]
async fn an_error_in_a_stream_is_an_event() {
    let (server, _) = Server::scripted(&[]).await;
    let events = server.events(CHAT, &chat(crate::scripted::FAIL, &json!({"stream": true}))).await;
    let error = &events.last().unwrap()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("generation_failed")));
}

#[tokio::test]
async fn figures() {
    let (server, _) = Server::scripted(&["--max-concurrent-requests=4"]).await;
    assert_eq!(server.status().await.get("throughput"), None);
    server.answer(COMPLETIONS, &completion("1234567", &json!({}))).await;
    server.answer(CHAT, &chat("1234567", &json!({"stop": "7"}))).await;
    for (name, labels, expected) in [
        ("cllm_requests_total", "outcome=\"stop\"", 2.0),
        ("cllm_generated_tokens_total", "", 14.0),
        ("vllm:generation_tokens_total", "", 14.0),
        ("vllm:prompt_tokens_total", "", 14.0),
        ("cllm_forwards_total", "", 4.0),
        ("cllm_tokens_per_forward_sum", "", 6.0),
        ("vllm:time_to_first_token_seconds_count", "", 2.0),
        ("vllm:e2e_request_latency_seconds_count", "", 2.0),
        ("vllm:num_requests_running", "", 0.0),
        ("cllm_ready", "", 1.0),
    ] {
        let found = server.metric(name, labels).await;
        assert!((found - expected).abs() < 1e-9, "{name}: {found}");
    }
    let mut status = server.status().await;
    let mut taken = |name: &str| status.as_object_mut().unwrap().remove(name).unwrap();
    let throughput = taken("throughput");
    for name in ["capacityTokensPerSecond", "utilizationPercent"] {
        assert!(taken(name).as_f64().unwrap() > 0.0, "{name}");
    }
    assert_eq!(throughput["tokensPerForward"], 3.0);
    assert!(throughput["measuredAt"].as_str().unwrap().ends_with('Z'), "{throughput}");
    let expected = json!({
        "servedName": MODEL, "digest": format!("sha256:{}", "0".repeat(64)), "parameters": 12, "ready": true,
        "effectiveStrategy": "Jacobi", "blockSize": 4, "requestsRunning": 0, "requestsWaiting": 0, "hardware": "none",
    });
    assert_eq!(status, expected);
}
