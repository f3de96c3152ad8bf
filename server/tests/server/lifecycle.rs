//! Loading, overload, clients that leave, and the end.

use std::{sync::mpsc, time::Duration};

use cllm_server::{ServeError, backend::LoadError, metrics::Outcome};
use reqwest::header::{CONNECTION, RETRY_AFTER};
use serde_json::{Value, json};

use crate::{
    scripted::{HOLD, Scripted},
    support::{Server, chat, completion, completion_text, eventually, read_events},
};

const COMPLETIONS: &str = "/v1/completions";

fn hold(stream: bool) -> Value {
    completion(HOLD, &json!({"stream": stream, "max_tokens": 90_000}))
}

#[tokio::test]
async fn while_loading_it_is_alive_and_asks_to_come_back() {
    let (finish, loading) = mpsc::channel::<()>();
    let server = Server::start(&[], move |_| {
        loading.recv().map_err(|_| LoadError::Checkpoint("never finished".to_owned()))?;
        Ok(Scripted::default().model())
    })
    .await;
    assert_eq!(server.get("/livez").await.status(), 200);
    for path in ["/readyz", "/health", "/v1/models"] {
        let response = server.get(path).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (503, &"5".parse().unwrap()),
            "{path}"
        );
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "model_loading", "{path}");
    }
    let response = server.post(COMPLETIONS, &completion("a", &json!({}))).send().await.unwrap();
    assert_eq!(response.status(), 503);
    let status = server.status().await;
    assert_eq!((&status["ready"], &status["digest"], &status["blockSize"]), (&json!(false), &json!(""), &json!(16)));
    let page = server.metrics_page().await;
    assert!(page.contains("cllm_ready{") && !page.contains("cllm_tokens_per_second{"), "{page}");
    finish.send(()).unwrap();
    server.ready().await;
    assert!(server.metric("cllm_tokens_per_second", "").await.abs() < 1e-9);
    assert_eq!(server.status().await["ready"], true);
}

#[tokio::test]
async fn the_probes_answer_beside_the_metrics_where_the_api_is_out_of_reach() {
    let (finish, loading) = mpsc::channel::<()>();
    let server = Server::start(&["--host=127.0.0.1", "--metrics-host=127.0.0.2"], move |_| {
        loading.recv().map_err(|_| LoadError::Checkpoint("never finished".to_owned()))?;
        Ok(Scripted::default().model())
    })
    .await;
    assert!(server.http.starts_with("http://127.0.0.1:"), "{}", server.http);
    assert!(server.metrics.starts_with("http://127.0.0.2:"), "{}", server.metrics);
    let probe = async |path: &str| reqwest::get(format!("{}{path}", server.metrics)).await.unwrap().status().as_u16();
    for (path, while_loading) in [("/livez", 200), ("/startupz", 503), ("/readyz", 503), ("/v1/models", 404)] {
        assert_eq!(probe(path).await, while_loading, "{path}");
    }
    finish.send(()).unwrap();
    server.ready().await;
    for path in ["/livez", "/startupz", "/readyz"] {
        assert_eq!(probe(path).await, 200, "{path}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_load_ends_the_server() {
    let broken = Server::start::<Scripted>(&[], |_| Err("it is broken".to_owned().into())).await;
    let error = broken.ended.await.unwrap().unwrap_err();
    assert!(matches!(&error, ServeError::Load(why) if why == "it is broken"), "{error}");
    let panicking = Server::start::<Scripted>(&[], |_| panic!("as scripted")).await;
    assert!(matches!(panicking.ended.await.unwrap(), Err(ServeError::Load(_))));
}

#[tokio::test]
async fn a_full_queue_is_429_and_stays_alive() {
    let (server, backend) = Server::scripted(&["--max-concurrent-requests=1", "--max-queued-requests=1"]).await;
    let running = tokio::spawn(server.post(COMPLETIONS, &hold(false)).send());
    let waiting = tokio::spawn(server.post(COMPLETIONS, &hold(false)).send());
    let worker = &server.app.loaded().unwrap().worker;
    eventually("full", async || worker.in_system() == 2 && worker.running() == 1).await;

    let refused = server.post(COMPLETIONS, &completion("a", &json!({}))).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()[RETRY_AFTER]), (429, &"1".parse().unwrap()));
    let error: Value = refused.json().await.unwrap();
    assert_eq!((&error["error"]["type"], &error["error"]["code"]), (&json!("rate_limit_error"), &json!("queue_full")));
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    for (name, expected) in [("vllm:num_requests_running", 1.0), ("vllm:num_requests_waiting", 1.0)] {
        assert!((server.metric(name, "").await - expected).abs() < 1e-9, "{name}");
    }
    assert_eq!(server.status().await["requestsWaiting"], 1);

    backend.release();
    for request in [running, waiting] {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    server.answer(COMPLETIONS, &completion("a", &json!({}))).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let (server, _) = Server::scripted(&["--max-concurrent-requests=1", "--max-queued-requests=1"]).await;
    let worker = &server.app.loaded().unwrap().worker;
    for (round, stream) in [(1, true), (2, false)] {
        let response = tokio::spawn(server.post(COMPLETIONS, &hold(stream)).send());
        eventually("running", async || worker.running() == 1).await;
        let queued = tokio::spawn(server.post(COMPLETIONS, &hold(stream)).send());
        eventually("queued", async || worker.in_system() == 2).await;
        for request in [queued, response] {
            if stream {
                drop(request.await);
            } else {
                request.abort();
            }
        }
        eventually("free", async || worker.in_system() == 0 && worker.running() == 0).await;
        assert_eq!(server.app.metrics.count(Outcome::Cancelled), 2 * round, "stream: {stream}");
    }
    server.answer(COMPLETIONS, &completion("a", &json!({}))).await;
}

#[tokio::test]
async fn draining_finishes_what_runs_and_refuses_what_comes() {
    let (server, backend) = Server::scripted(&[]).await;
    let running = server.post(COMPLETIONS, &hold(true)).send().await.unwrap();
    server.shutdown.drain.cancel();
    eventually("not ready", async || server.get("/readyz").await.status() == 503).await;
    assert_eq!(server.get("/livez").await.status(), 200);
    assert_eq!(server.status().await["ready"], false);
    let refused = server.post("/v1/chat/completions", &chat("a", &json!({}))).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()[CONNECTION]), (503, &"close".parse().unwrap()));
    assert!(refused.headers().contains_key(RETRY_AFTER));
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "shutting_down");

    backend.release();
    let events = read_events(running).await;
    assert!(completion_text(&events, 0).starts_with("hx"));
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
    server.ended.await.unwrap().unwrap();
    assert!(server.client.get(format!("{}/livez", server.http)).send().await.is_err());
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off_with_an_error() {
    for hurry in [true, false] {
        let drain_seconds = if hurry { "--drain-seconds=3600" } else { "--drain-seconds=0" };
        let (server, _) = Server::scripted(&[drain_seconds]).await;
        let running = server.post(COMPLETIONS, &hold(true)).send().await.unwrap();
        server.shutdown.drain.cancel();
        if hurry {
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.shutdown.hurry.cancel();
        }
        let events = read_events(running).await;
        assert_eq!(events.last().unwrap()["error"]["code"], "shutting_down", "hurry: {hurry}");
        server.ended.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_end_while_loading_comes_at_once() {
    let (_never, loading) = mpsc::channel::<()>();
    let server = Server::start(&["--drain-seconds=3600"], move |_| {
        loading.recv().map_err(|_| LoadError::Checkpoint("not waited for".to_owned()))?;
        Ok(Scripted::default().model())
    })
    .await;
    server.shutdown.drain.cancel();
    server.ended.await.unwrap().unwrap();
}
