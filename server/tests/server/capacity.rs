//! What a server can deliver, how much of that it delivers, and the cap.

use std::time::{Duration, Instant};

use cllm_server::pacing::SLACK;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    engine::serve_random,
    scripted::{CAPACITY, HOLD, PER_FORWARD},
    support::{Server, completion, completion_text, eventually},
};

const COMPLETIONS: &str = "/v1/completions";

/// Streams that run until they are dropped.
async fn hold(server: &Server, count: usize) -> Vec<reqwest::Response> {
    let body = completion(HOLD, &json!({"stream": true, "max_tokens": 90_000}));
    let sent = join_all((0..count).map(|_| server.post(COMPLETIONS, &body).send())).await;
    sent.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn it_measures_what_it_can_deliver_before_it_answers() {
    for extra in [&["--max-concurrent-requests=4"][..], &["--strategy=Autoregressive"], &["--context-length=80"]] {
        let server = serve_random(extra).await.server;
        let status = server.status().await;
        let capacity = status["capacityTokensPerSecond"].as_f64().unwrap();
        assert!(capacity > 0.0 && status["utilizationPercent"] == 0.0, "{status}");
        assert!((server.metric("cllm_capacity_tokens_per_second", "").await - capacity).abs() < 1e-6, "{extra:?}");
        // measuring is not serving
        for name in ["cllm_generated_tokens_total", "cllm_prefix_cache_queries_total", "cllm_kv_cache_usage_ratio"] {
            assert!(server.metric(name, "").await.abs() < 1e-9, "{name} {extra:?}");
        }
    }
}

#[tokio::test]
async fn what_nothing_was_measured_with_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.txt");
    std::fs::write(&prompts, "a".repeat(300)).unwrap();
    let server = serve_random(&[&format!("--prompts={}", prompts.display())]).await.server;
    assert_eq!(server.status().await["capacityTokensPerSecond"], Value::Null);
    let page = server.metrics_page().await;
    assert!(page.contains("cllm_tokens_per_second{") && !page.contains("cllm_utilization_percent{"), "{page}");
}

#[tokio::test]
async fn no_more_than_the_cap_is_delivered_and_all_get_their_share_of_it() {
    const CAP: f64 = 150.0;
    const STREAMS: usize = 4;
    let (server, _) = Server::scripted(&["--max-tokens-per-second=150"]).await;
    let text = "a".repeat(46);
    let body = completion(text.as_str(), &json!({"stream": true, "max_tokens": 100}));
    let began = Instant::now();
    let all = join_all((0..STREAMS).map(|_| server.events(COMPLETIONS, &body))).await;
    let took = began.elapsed();
    for events in &all {
        assert_eq!(completion_text(events, 0), text);
        let pieces = events.iter().filter(|event| !event["choices"][0]["text"].as_str().unwrap_or_default().is_empty());
        assert_eq!(pieces.count(), 1 + 45 / PER_FORWARD, "each forward is told at once");
    }
    let most_of_a_forward = STREAMS * PER_FORWARD;
    let paid = (STREAMS * text.len() - 2 * most_of_a_forward) as f64;
    let least = Duration::from_secs_f64(paid / CAP).saturating_sub(SLACK);
    assert!(took >= least, "{took:?}, but {least:?} at least");
}

#[tokio::test]
async fn utilization_is_of_the_cap_where_the_machine_could_deliver_more() {
    let (server, _) = Server::scripted(&["--max-tokens-per-second=40", "--max-concurrent-requests=2"]).await;
    assert_eq!(server.status().await["capacityTokensPerSecond"], 40.0);
    let held = hold(&server, 3).await;
    let is_full = async || server.metric("cllm_utilization_percent", "").await > 80.0;
    eventually("full", is_full).await;
    let found = server.metric("cllm_utilization_percent", "").await;
    assert!(found < 120.0, "{found}");
    let queued = server.metric("cllm_queued_requests", "").await;
    assert!((queued - 1.0).abs() < 1e-9, "{queued}");
    drop(held);
}

#[tokio::test]
async fn an_overestimated_capacity_is_corrected_where_all_slots_are_in_use() {
    let (server, _) = Server::scripted(&["--max-concurrent-requests=2"]).await;
    let capacity = async || server.status().await["capacityTokensPerSecond"].as_f64().unwrap();
    let one = hold(&server, 1).await;
    eventually("some load", async || server.metric("cllm_tokens_per_second", "").await > 0.0).await;
    assert!((capacity().await - CAPACITY).abs() < 1e-3, "a free slot says nothing");
    let other = hold(&server, 1).await;
    eventually("a lower capacity", async || capacity().await < 0.99 * CAPACITY).await;
    drop((one, other));
}
