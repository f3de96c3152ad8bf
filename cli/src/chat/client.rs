//! The `OpenAI` API from the client's side: the list of models, and one streamed answer.

use std::time::Duration;

use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

/// How long a connection is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What ends a stream.
const DONE: &str = "[DONE]";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChatError {
    /// Only plain HTTP is spoken.
    #[error("the URL {url} does not start with http://; give that of the API, for example http://127.0.0.1:8000/v1")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody answers.
    #[error("cannot reach {url}: {reason}; is the model up? `cllm up FILE` prints its URL for --url")]
    Connect {
        /// What was asked.
        url: String,
        /// The last cause.
        reason: String,
    },
    /// The server refuses.
    #[error("the server answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its sentence.
        message: String,
    },
    /// The answer broke off, or is none.
    #[error("the answer of {url} cannot be read: {reason}; is it an OpenAI API?")]
    Broken {
        /// What was asked.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Standard input failed.
    #[error("cannot read the prompt from standard input: {0}")]
    Input(std::io::Error),
}

/// Where the API is.
#[derive(Debug)]
pub(super) struct Client {
    base: String,
    key: Option<String>,
    http: reqwest::Client,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// The served name.
    pub model: &'a str,
    /// The most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// 0 for the most likely tokens.
    pub temperature: f64,
    /// The server draws one where there is none.
    pub seed: Option<i64>,
    /// Decides between the two endpoints.
    pub content: Content<'a>,
}

/// A prompt as it is, or turns of a chat.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// For `/completions`.
    Prompt(&'a str),
    /// For `/chat/completions`.
    Messages(&'a [Value]),
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// The whole text.
    pub text: String,
    /// As the server counts.
    pub usage: Option<Value>,
    /// Figures of the decoding, if the server gives them.
    pub metrics: Option<Value>,
}

impl Client {
    /// For the API at `base`, which ends in `/v1`.
    pub(super) fn new(base: &str, key: Option<&str>) -> Result<Self, ChatError> {
        if !base.starts_with("http://") {
            return Err(ChatError::Url { url: base.to_owned() });
        }
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build().unwrap_or_default();
        Ok(Self { base: base.trim_end_matches('/').to_owned(), key: key.map(str::to_owned), http })
    }

    /// The first name of the list of models.
    pub(super) async fn first_model(&self) -> Result<String, ChatError> {
        let url = format!("{}/models", self.base);
        let response = self.send(self.http.get(&url), &url).await?;
        let broken = |reason: String| ChatError::Broken { url: url.clone(), reason };
        let list: Value = response.json().await.map_err(|error| broken(root_cause(&error)))?;
        let name = list.pointer("/data/0/id").and_then(Value::as_str);
        name.map(str::to_owned).ok_or_else(|| broken("it lists no model".to_owned()))
    }

    /// Asks, and hands on the pieces of the answer as they come.
    pub(super) async fn ask(&self, question: &Question<'_>, on_piece: &dyn Fn(&str)) -> Result<Answer, ChatError> {
        let (url, body) = self.request(question);
        let response = self.send(self.http.post(&url).json(&body), &url).await?;
        let broken = |reason: String| ChatError::Broken { url: url.clone(), reason };
        let mut events = response.bytes_stream().eventsource();
        let mut answer = Answer::default();
        while let Some(event) = events.next().await {
            let data = event.map_err(|error| broken(error.to_string()))?.data;
            if data == DONE {
                return Ok(answer);
            }
            let chunk: Value = serde_json::from_str(&data).map_err(|error| broken(error.to_string()))?;
            if let Some(message) = chunk.pointer("/error/message").and_then(Value::as_str) {
                return Err(broken(message.to_owned()));
            }
            answer.take(&chunk, on_piece);
        }
        Err(broken("it ended before it was complete".to_owned()))
    }

    fn request(&self, question: &Question<'_>) -> (String, Value) {
        let mut body = json!({
            "model": question.model,
            "temperature": question.temperature,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if let Some(max_tokens) = question.max_tokens {
            body["max_tokens"] = max_tokens.into();
        }
        if let Some(seed) = question.seed {
            body["seed"] = seed.into();
        }
        let path = match question.content {
            Content::Prompt(prompt) => {
                body["prompt"] = prompt.into();
                "completions"
            }
            Content::Messages(messages) => {
                body["messages"] = messages.into();
                "chat/completions"
            }
        };
        (format!("{}/{path}", self.base), body)
    }

    async fn send(&self, request: RequestBuilder, url: &str) -> Result<Response, ChatError> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let response = request
            .send()
            .await
            .map_err(|error| ChatError::Connect { url: url.to_owned(), reason: root_cause(&error) })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = response.text().await.unwrap_or_default();
        let sentence = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|body| body.pointer("/error/message").and_then(Value::as_str).map(str::to_owned));
        Err(ChatError::Refused { status, message: sentence.unwrap_or(text) })
    }
}

impl Answer {
    fn take(&mut self, chunk: &Value, on_piece: &dyn Fn(&str)) {
        let piece = ["/choices/0/delta/content", "/choices/0/text"]
            .iter()
            .find_map(|pointer| chunk.pointer(pointer).and_then(Value::as_str));
        if let Some(piece) = piece {
            on_piece(piece);
            self.text.push_str(piece);
        }
        for (name, field) in [("usage", &mut self.usage), ("metrics", &mut self.metrics)] {
            if let Some(value) = chunk.get(name).filter(|value| !value.is_null()) {
                *field = Some(value.clone());
            }
        }
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
