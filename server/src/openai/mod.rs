//! The OpenAI API: one file for each route, and what completions and chats have in common.

pub mod chat;
pub mod completions;
pub mod extract;
pub mod models;
pub mod types;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use self::types::{Envelope, Usage};
use crate::{
    backend::{Description, FinishReason, Text},
    error::ApiError,
    speculation::{ResponseMetrics, summarize},
    state::{App, Loaded},
    stream::{collect, events},
    validation::{AnswerOptions, Served},
    worker::{Answered, Prompt},
};

/// How one of the two routes writes an answer.
pub trait Dialect: Send + 'static {
    /// The beginning of ids.
    const ID_PREFIX: &'static str;
    /// The `object` of a whole answer.
    const OBJECT: &'static str;
    /// The `object` of an event.
    const CHUNK_OBJECT: &'static str;
    /// A whole answer.
    type Choice: Serialize;
    /// What is new in an event.
    type ChunkChoice: Serialize;

    /// A whole answer.
    fn choice(index: usize, text: String, reason: FinishReason) -> Self::Choice;
    /// The first event of an answer, if there is one before its text.
    fn opening(index: usize) -> Option<Self::ChunkChoice>;
    /// More of an answer.
    fn text(index: usize, text: String) -> Self::ChunkChoice;
    /// The last event of an answer.
    fn closing(index: usize, reason: FinishReason) -> Self::ChunkChoice;
}

/// A prompt and the length of its answers.
struct Question {
    tokens: Vec<u32>,
    max_tokens: usize,
}

/// What all objects of one response share.
#[derive(Clone, Debug)]
pub struct Header {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    prompt_tokens: usize,
    block_size: u32,
    seed: Option<i64>,
}

impl Header {
    fn new<D: Dialect>(app: &App, description: &Description, questions: &[Question], seed: Option<i64>) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self {
            id: format!("{}-{:x}{serial:04x}", D::ID_PREFIX, now.as_nanos()),
            created: now.as_secs(),
            model: app.settings.served_name.clone(),
            fingerprint: format!("cllm-{}-{}", env!("CARGO_PKG_VERSION"), description.instruction_set),
            prompt_tokens: questions.iter().map(|question| question.tokens.len()).sum(),
            block_size: description.block_size,
            seed,
        }
    }

    /// An object of this response.
    pub fn envelope<C>(
        &self,
        object: &'static str,
        choices: Vec<C>,
        usage: Option<Option<Usage>>,
        metrics: Option<ResponseMetrics>,
    ) -> Envelope<'_, C> {
        let Self { id, created, model, fingerprint, prompt_tokens: _, block_size: _, seed: _ } = self;
        Envelope { id, object, created: *created, model, choices, usage, system_fingerprint: fingerprint, metrics }
    }

    /// The usage of the answers.
    pub fn usage(&self, answers: &[Answered]) -> Usage {
        let completion_tokens = answers.iter().map(|answer| answer.tokens).sum();
        let prompt_tokens = self.prompt_tokens;
        Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }

    /// The figures of the answers.
    pub fn metrics(&self, answers: &[Answered]) -> ResponseMetrics {
        ResponseMetrics { seed: self.seed, ..summarize(answers, self.block_size) }
    }
}

/// Submits each prompt once for each of its choices and answers in one object or as a stream of events.
async fn respond<D: Dialect>(
    app: &App,
    loaded: &Loaded,
    questions: &[Question],
    options: &AnswerOptions,
) -> Result<Response, ApiError> {
    let seed = options.sampling.seed_or_else(random_seed);
    let header = Header::new::<D>(app, &loaded.description, questions, seed);
    let prompts = prompts(questions, options, seed);
    let (count, allowed) = (prompts.len(), loaded.worker.capacity());
    if count > allowed {
        let message = format!(
            "n is {}, which makes {count} answers, but this server gives {allowed} at once.",
            options.sampling.choices()
        );
        return Err(ApiError::field("n", message));
    }
    let received = loaded.worker.submit(prompts)?;
    if options.stream {
        return Ok(events::<D>(header, received, count, options.include_usage).into_response());
    }
    let answers = collect(received, count).await?;
    let figures: Vec<Answered> = answers.iter().map(|(_, answered)| *answered).collect();
    let choices = answers.into_iter().enumerate();
    let choices = choices.map(|(index, (text, answered))| D::choice(index, text, answered.reason)).collect();
    let usage = Some(Some(header.usage(&figures)));
    Ok(Json(header.envelope(D::OBJECT, choices, usage, Some(header.metrics(&figures)))).into_response())
}

/// The choices of the first prompt, then those of the next.
fn prompts(questions: &[Question], options: &AnswerOptions, seed: Option<i64>) -> Vec<Prompt> {
    let of_question = |question: &Question| {
        let Question { tokens, max_tokens } = question;
        let (tokens, max_tokens, stops) = (tokens.clone(), *max_tokens, options.stops.clone());
        let prompt = move |sampling| Prompt { tokens: tokens.clone(), max_tokens, stops: stops.clone(), sampling };
        options.sampling.of_choices(seed).map(prompt)
    };
    questions.iter().flat_map(of_question).collect()
}

/// Another one each time, and a whole number also for clients that have none beyond 2⁵³.
fn random_seed() -> i64 {
    (RandomState::new().hash_one(0) >> 11).cast_signed()
}

/// What requests must be for.
fn served<'a>(app: &'a App, loaded: &Loaded) -> Served<'a> {
    Served { name: &app.settings.served_name, vocabulary_size: loaded.text.vocabulary_size() }
}

/// Encoding a long text takes its time: not on a thread that serves others.
async fn encode<T: Send + 'static>(
    text: &Arc<dyn Text>,
    act: impl FnOnce(&dyn Text) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let text = Arc::clone(text);
    let failed = |error| ApiError::Generation(format!("the prompt could not be encoded: {error}"));
    tokio::task::spawn_blocking(move || act(&*text)).await.map_err(failed)?
}
