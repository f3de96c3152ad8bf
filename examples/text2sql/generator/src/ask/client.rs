//! The few calls of the `OpenAI` API that are needed here. Blocking, one at a time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use ureq::Agent;

/// Longer than any query of the data set.
const MAX_TOKENS: usize = 128;

/// A server and the model that it serves.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    model: String,
}

/// What the model wrote.
#[derive(Debug)]
pub(crate) struct Completion {
    /// As it came.
    pub(crate) text: String,
    /// Decoded tokens for one forward of the model, if the server says.
    pub(crate) tokens_per_forward: Option<f64>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

#[derive(Deserialize)]
struct Response {
    choices: Vec<Choice>,
    metrics: Option<Metrics>,
}

#[derive(Deserialize)]
struct Choice {
    text: String,
}

#[derive(Deserialize)]
struct Metrics {
    tokens_per_forward: Option<f64>,
}

/// Time between two tries to reach a server that is starting.
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

impl Client {
    /// Asks the server at `url` (with `/v1`) which model it serves; tries again for as long as `patience` where it does not answer yet.
    pub(crate) fn connect(url: &str, patience: Duration) -> Result<Self> {
        let begun = Instant::now();
        loop {
            match Self::try_connect(url) {
                Err(_) if begun.elapsed() < patience => std::thread::sleep(BETWEEN_TRIES),
                outcome => return outcome,
            }
        }
    }

    fn try_connect(url: &str) -> Result<Self> {
        let agent: Agent = Agent::config_builder().timeout_global(Some(Duration::from_secs(120))).build().into();
        let url = url.trim_end_matches('/').to_owned();
        let context = || format!("failed to ask {url}/models for its model: is the server running there?");
        let mut response = agent.get(format!("{url}/models")).call().with_context(context)?;
        let models: Models = response.body_mut().read_json().with_context(context)?;
        let model = models.data.into_iter().next().with_context(|| format!("{url}/models lists no model"))?.id;
        Ok(Self { agent, url, model })
    }

    /// Completes `prompt` greedily.
    pub(crate) fn complete(&self, prompt: &str) -> Result<Completion> {
        let context = || format!("failed to complete a prompt at {}/completions", self.url);
        let body = json!({ "model": self.model, "prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0 });
        let request = self.agent.post(format!("{}/completions", self.url));
        let mut response = request.send_json(body).with_context(context)?;
        let response: Response = response.body_mut().read_json().with_context(context)?;
        let text = response.choices.into_iter().next().context("the server answered without a choice")?.text;
        let tokens_per_forward = response.metrics.and_then(|metrics| metrics.tokens_per_forward);
        Ok(Completion { text, tokens_per_forward })
    }
}
