//! Every error that a client can cause: status, code, field, and the OpenAI shape.

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    scripted::{CONTEXT, FAIL, PANIC},
    support::{MODEL, Server, chat, completion},
};

async fn error_of(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let error = &body["error"];
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let mut fields: Vec<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["code", "message", "param", "type"], "{body}");
    assert!(error["message"].as_str().unwrap().ends_with('.'), "{body}");
    (status, error.clone())
}

#[tokio::test]
async fn the_table_of_refused_bodies() {
    let (server, _) = Server::scripted(&["--max-queued-requests=1"]).await;
    let (completions, chats) = ("/v1/completions", "/v1/chat/completions");
    let long = "a".repeat(CONTEXT);
    for (path, body, status, code, param) in [
        (completions, json!({"model": "other", "prompt": "a"}), 404, "model_not_found", Some("model")),
        (chats, json!({"model": "other", "messages": []}), 404, "model_not_found", Some("model")),
        (completions, json!({"prompt": "a"}), 400, "invalid_value", Some("model")),
        (completions, json!([1]), 400, "invalid_json", None),
        (completions, completion("a", &json!({"n": 2})), 400, "invalid_value", Some("n")),
        (completions, completion("a", &json!({"logprobs": 1})), 400, "invalid_value", Some("logprobs")),
        (chats, chat("a", &json!({"temperature": 2.5})), 400, "invalid_value", Some("temperature")),
        (chats, chat("a", &json!({"top_p": 0.5})), 400, "invalid_value", Some("top_p")),
        (
            chats,
            chat("a", &json!({"temperature": 1, "logit_bias": {"256": 1}})),
            400,
            "invalid_value",
            Some("logit_bias"),
        ),
        // 9 prompts fit, 18 answers do not
        (
            completions,
            completion(json!(vec!["a"; 9]), &json!({"temperature": 1, "n": 2})),
            400,
            "invalid_value",
            Some("n"),
        ),
        (chats, chat("a", &json!({"tools": [{}]})), 400, "invalid_value", Some("tools")),
        (completions, completion("", &json!({})), 400, "invalid_value", Some("prompt")),
        (completions, completion(json!([256]), &json!({})), 400, "invalid_value", Some("prompt")),
        (completions, completion(json!(vec!["a"; 10]), &json!({})), 400, "invalid_value", Some("prompt")),
        (completions, completion(long.as_str(), &json!({})), 400, "context_length_exceeded", Some("prompt")),
        (completions, completion("a", &json!({"max_tokens": CONTEXT})), 400, "context_length_exceeded", Some("prompt")),
        (chats, chat(&long, &json!({})), 400, "context_length_exceeded", Some("messages")),
        (completions, completion(FAIL, &json!({})), 500, "generation_failed", None),
        (chats, chat(PANIC, &json!({})), 500, "generation_failed", None),
    ] {
        let (found, error) = error_of(server.post(path, &body).send().await.unwrap()).await;
        let what = format!("{path} {:.80} {error}", body.to_string());
        assert_eq!((found, error["code"].as_str()), (status, Some(code)), "{what}");
        assert_eq!(error["param"].as_str(), param, "{what}");
        assert_eq!(error["type"], if status == 500 { "server_error" } else { "invalid_request_error" }, "{what}");
    }
}

#[tokio::test]
async fn both_lengths_are_named() {
    let (server, _) = Server::scripted(&[]).await;
    let body = completion("12345", &json!({"max_tokens": CONTEXT}));
    let (_, error) = error_of(server.post("/v1/completions", &body).send().await.unwrap()).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("5 tokens") && message.contains(&CONTEXT.to_string()), "{message}");
}

#[tokio::test]
async fn paths_methods_and_bodies_that_do_not_exist() {
    let (server, _) = Server::scripted(&[]).await;
    let send = async |method: Method, path: &str, content_type: Option<&str>, body: String| {
        let mut request = server.client.request(method, format!("{}{path}", server.http)).body(body);
        if let Some(value) = content_type {
            request = request.header(header::CONTENT_TYPE, value);
        }
        request.send().await.unwrap()
    };
    let good = completion("a", &json!({})).to_string();
    let large = completion("a".repeat(5 << 20), &json!({})).to_string();
    let json_type = Some("application/json");
    for (method, path, content_type, body, status, code) in [
        (Method::GET, "/v1/nothing", None, "", 404, "not_found"),
        (Method::GET, "/", None, "", 404, "not_found"),
        (Method::GET, "/v1/models/other", None, "", 404, "model_not_found"),
        (Method::GET, "/v1/completions", None, "", 405, "method_not_allowed"),
        (Method::DELETE, "/v1/models", None, "", 405, "method_not_allowed"),
        (Method::POST, "/readyz", None, "", 405, "method_not_allowed"),
        (Method::POST, "/v1/completions", None, &good, 415, "unsupported_media_type"),
        (Method::POST, "/v1/completions", Some("text/plain"), &good, 415, "unsupported_media_type"),
        (Method::POST, "/v1/chat/completions", json_type, "{\"model\":", 400, "invalid_json"),
        (Method::POST, "/v1/chat/completions", json_type, "", 400, "invalid_json"),
        (Method::POST, "/v1/completions", json_type, &large, 413, "body_too_large"),
    ] {
        let response = send(method.clone(), path, content_type, body.to_owned()).await;
        if status == 405 {
            assert!(response.headers().contains_key(header::ALLOW), "{method} {path}");
        }
        let (found, error) = error_of(response).await;
        assert_eq!((found, error["code"].as_str()), (status, Some(code)), "{method} {path}: {error}");
    }
    let charset = send(Method::POST, "/v1/completions", Some("application/json; charset=utf-8"), good).await;
    assert_eq!(charset.status(), 200);
}

#[tokio::test]
async fn a_key_is_asked_for_everywhere_but_at_the_probes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "old-key\nnew-key\n").unwrap();
    let (server, _) = Server::scripted(&[&format!("--api-key-file={}", file.display())]).await;
    let good = completion("a", &json!({}));
    for (key, status) in [(None, 401), (Some("wrong"), 401), (Some("old-key"), 200), (Some("new-key"), 200)] {
        let with_key = |request: reqwest::RequestBuilder| match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        for request in [
            server.client.get(format!("{}/v1/models", server.http)),
            server.client.get(format!("{}/v1/models/{MODEL}", server.http)),
            server.post("/v1/completions", &good),
            server.post("/v1/chat/completions", &chat("a", &json!({}))),
        ] {
            let response = with_key(request).send().await.unwrap();
            assert_eq!(response.status(), status, "{key:?} {}", response.url());
            if status == 401 {
                assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
                assert_eq!(error_of(response).await.1["code"], "invalid_api_key");
            }
        }
    }
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    assert!(server.metrics_page().await.contains("cllm_ready"));
}
