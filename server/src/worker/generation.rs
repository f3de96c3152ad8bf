//! One generation in its slot: pieces of text in, events out. Knows nothing of other generations.

use super::{Answered, Event, Job};
use crate::{
    backend::{Backend, Finish, FinishReason, Forwards, Step},
    error::ApiError,
    metrics::{Metrics, Outcome},
    speculation::tokens_per_forward,
    stop::StopMatcher,
    throughput::Generated,
};

/// A job with the state of the backend.
pub(super) struct Running<B: Backend> {
    job: Job,
    state: B::Generation,
    stops: StopMatcher,
    tokens: usize,
    forwards: Forwards,
}

/// What a step was for the counts.
pub(super) struct Taken {
    pub(super) generated: Generated,
    /// The generation is over and its slot is free.
    pub(super) is_over: bool,
}

impl<B: Backend> Running<B> {
    pub(super) fn new(mut job: Job, state: B::Generation, metrics: &Metrics) -> Self {
        metrics.prompt(job.prompt.tokens.len());
        let stops = StopMatcher::new(std::mem::take(&mut job.prompt.stops));
        Self { job, state, stops, tokens: 0, forwards: Forwards::default() }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.job.events.is_closed()
    }

    pub(super) fn state(&self) -> &B::Generation {
        &self.state
    }

    pub(super) fn state_mut(&mut self) -> &mut B::Generation {
        &mut self.state
    }

    /// Takes what a forward gave, with which the generation had so many.
    pub(super) fn take_step(&mut self, step: Step, forwards: Forwards, metrics: &Metrics) -> Taken {
        let tokens_before = self.tokens;
        let of_step = forwards.since(self.forwards);
        self.forwards = forwards;
        let (text, reason) = self.take(step);
        let tokens = (self.tokens - tokens_before) as u64;
        metrics.generated(tokens, of_step);
        if tokens_before == 0 && self.tokens > 0 {
            metrics.first_token(self.job.arrived.elapsed());
        }
        if !text.is_empty() {
            self.job.send(Event::Text(text));
        }
        if let Some(reason) = reason {
            self.finish(reason, metrics);
        }
        let decoded_tokens = if of_step.decode > 0 { tokens } else { 0 };
        let generated = Generated { tokens, decoded_tokens, decode_forwards: of_step.decode };
        Taken { generated, is_over: reason.is_some() }
    }

    /// The text that may be shown, and the end if it is reached. What follows a stop string is dropped at once.
    fn take(&mut self, step: Step) -> (String, Option<FinishReason>) {
        let mut text = String::new();
        for piece in step.pieces {
            self.tokens += 1;
            let released = self.stops.push(&piece);
            text.push_str(&released.text);
            if released.stopped {
                return (text, Some(FinishReason::Stop));
            }
        }
        let Some(Finish { reason, tail }) = step.finish else { return (text, None) };
        let released = self.stops.push(&tail);
        text.push_str(&released.text);
        if released.stopped {
            return (text, Some(FinishReason::Stop));
        }
        text.push_str(&self.stops.finish());
        (text, Some(reason))
    }

    fn finish(&self, reason: FinishReason, metrics: &Metrics) {
        let outcome = match reason {
            FinishReason::Stop => Outcome::Stop,
            FinishReason::Length => Outcome::Length,
        };
        let rate = tokens_per_forward(self.tokens.saturating_sub(1), self.forwards.decode);
        metrics.complete(outcome, self.job.arrived.elapsed(), rate);
        log(&self.job, 200, outcome, self.tokens);
        self.job.send(Event::Finished(Answered { reason, tokens: self.tokens, forwards: self.forwards }));
    }

    pub(super) fn cancel(&self, metrics: &Metrics) {
        cancel(&self.job, self.tokens, metrics);
    }

    pub(super) fn fail(&self, error: ApiError, metrics: &Metrics) {
        fail(&self.job, error, metrics);
    }
}

/// The client went away: nothing is sent. Web servers log this as 499.
pub(super) fn cancel(job: &Job, tokens: usize, metrics: &Metrics) {
    metrics.ended(Outcome::Cancelled);
    log(job, 499, Outcome::Cancelled, tokens);
}

/// Tells the client why there is no answer.
pub(super) fn fail(job: &Job, error: ApiError, metrics: &Metrics) {
    metrics.ended(Outcome::Failed);
    log(job, error.status().as_u16(), Outcome::Failed, 0);
    job.send(Event::Failed(error));
}

fn log(job: &Job, status: u16, outcome: Outcome, tokens: usize) {
    tracing::info!(
        status,
        outcome = outcome.as_str(),
        prompt_tokens = job.prompt.tokens.len(),
        tokens,
        milliseconds = job.arrived.elapsed().as_millis() as u64,
        "generation ended"
    );
}
