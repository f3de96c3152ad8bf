//! Starts servers on free ports of loopback and talks to them.

use std::{future::Future, sync::Arc, time::Duration};

use clap::Parser;
use cllm_server::{
    Args, ServeError,
    backend::{Backend, LoadError, LoadedModel},
    serve::{Listeners, serve, settings},
    shutdown::Shutdown,
    state::App,
};
use eventsource_stream::Eventsource;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::scripted::Scripted;

pub(crate) const MODEL: &str = "scripted/model";

/// A server in this process.
pub(crate) struct Server {
    pub(crate) http: String,
    pub(crate) metrics: String,
    pub(crate) app: Arc<App>,
    pub(crate) shutdown: Shutdown,
    pub(crate) ended: JoinHandle<Result<(), ServeError>>,
    pub(crate) client: reqwest::Client,
}

impl Server {
    /// Answers as [`Scripted`] says.
    pub(crate) async fn scripted(extra: &[&str]) -> (Self, Scripted) {
        let backend = Scripted::default();
        let model = backend.model();
        let server = Self::start(extra, move |_| Ok(model)).await;
        server.ready().await;
        (server, backend)
    }

    /// Loads as `load` says; may not be ready yet.
    pub(crate) async fn start<B: Backend>(
        extra: &[&str],
        load: impl FnOnce(&Args) -> Result<LoadedModel<B>, LoadError> + Send + 'static,
    ) -> Self {
        let served_name = format!("--served-name={MODEL}");
        let fixed = ["cllm-server", "--model=unused", &served_name, "--http-port=0", "--metrics-port=0"];
        let args = Args::try_parse_from(fixed.iter().chain(extra)).unwrap();
        let listeners = Listeners::bind(&args).await.unwrap();
        let [http, metrics] =
            [&listeners.http, &listeners.metrics].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        let app = Arc::new(App::new(settings(&args).unwrap()).unwrap());
        let shutdown = Shutdown::default();
        let (served, wish, limit) = (Arc::clone(&app), shutdown.clone(), args.drain());
        let ended = tokio::spawn(async move { serve(listeners, served, move || load(&args), &wish, limit).await });
        Self { http, metrics, app, shutdown, ended, client: reqwest::Client::new() }
    }

    pub(crate) async fn ready(&self) {
        eventually("ready", async || self.get("/readyz").await.status() == 200).await;
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.http)).send().await.unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.http)).json(body)
    }

    pub(crate) async fn answer(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body).send().await.unwrap();
        let status = response.status();
        let value = response.json().await.unwrap();
        assert_eq!(status, 200, "{value}");
        value
    }

    /// The events of a stream, `[DONE]` checked and left away.
    pub(crate) async fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        read_events(self.post(path, body).send().await.unwrap()).await
    }

    pub(crate) async fn metrics_page(&self) -> String {
        self.client.get(format!("{}/metrics", self.metrics)).send().await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn status(&self) -> Value {
        self.client.get(format!("{}/status", self.metrics)).send().await.unwrap().json().await.unwrap()
    }

    /// The value of a metric without labels other than those that all have.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.metrics_page().await;
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

pub(crate) async fn read_events(response: reqwest::Response) -> Vec<Value> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut data: Vec<String> =
        response.bytes_stream().eventsource().map(|event| event.unwrap().data).collect::<Vec<_>>().await;
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    data.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// The text of a stream of completions for the prompt at `index`.
pub(crate) fn completion_text(events: &[Value], index: u64) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    choices.filter(|choice| choice["index"] == index).map(|choice| choice["text"].as_str().unwrap()).collect()
}

/// The text of a stream of a chat.
pub(crate) fn chat_text(events: &[Value]) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    choices.filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

pub(crate) fn completion(prompt: impl Into<Value>, extra: &Value) -> Value {
    merged(json!({"model": MODEL, "prompt": prompt.into()}), extra)
}

pub(crate) fn chat(content: &str, extra: &Value) -> Value {
    merged(json!({"model": MODEL, "messages": [{"role": "user", "content": content}]}), extra)
}

fn merged(mut body: Value, extra: &Value) -> Value {
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// Waits for something that must become true; gives up after a time that no machine should need.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    for _ in 0..6000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {what}");
}
