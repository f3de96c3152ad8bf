//! From the events of the engine thread to an answer: collected into one, or as server-sent events while it comes about.

use std::{convert::Infallible, marker::PhantomData, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event as SseEvent, KeepAlive, Sse},
    },
};
use futures::{StreamExt, stream};
use serde::Serialize;

use crate::{
    error::ApiError,
    openai::{Dialect, Header},
    worker::{Answered, Event, Events},
};

/// A comment is sent when nothing else was for so long, so that no proxy takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Waits for `count` answers. The first failure fails the request; dropping the future cancels everything.
pub async fn collect(mut events: Events, count: usize) -> Result<Vec<(String, Answered)>, ApiError> {
    let mut texts = vec![String::new(); count];
    let mut figures = vec![None; count];
    while let Some((index, event)) = events.recv().await {
        match event {
            Event::Text(text) => texts[index].push_str(&text),
            Event::Finished(answered) => figures[index] = Some(answered),
            Event::Failed(error) => return Err(error),
        }
    }
    let complete: Option<Vec<Answered>> = figures.into_iter().collect();
    complete.map(|figures| texts.into_iter().zip(figures).collect()).ok_or_else(incomplete)
}

/// Sends `count` answers as they come about, then the usage if it was asked for, then `[DONE]`. An error is an event too, and
/// the last one before `[DONE]`. When the client goes away the stream is dropped, which cancels what is still running.
pub fn events<D: Dialect>(header: Header, events: Events, count: usize, include_usage: bool) -> Response {
    let narrator = Narrator::<D> { header, include_usage, figures: Vec::new(), count, dialect: PhantomData };
    let opening: Vec<_> = (0..count).filter_map(D::opening).map(|choice| narrator.chunk(vec![choice])).collect();
    let rest = stream::unfold(Some((events, narrator)), |state| async move {
        let (mut events, mut narrator) = state?;
        Some(match events.recv().await {
            Some((index, event)) => match narrator.tell(index, event) {
                Ok(chunk) => (vec![chunk], Some((events, narrator))),
                Err(error) => (failure(&error), None),
            },
            None => (narrator.close(), None),
        })
    });
    let all = stream::iter(opening).chain(rest.flat_map(stream::iter)).map(Ok::<_, Infallible>);
    let body = Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // some proxies hold a response back until it is complete
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    ([unbuffered, (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))], body).into_response()
}

/// Turns events into chunks and keeps the figures for the end.
struct Narrator<D> {
    header: Header,
    include_usage: bool,
    figures: Vec<Answered>,
    count: usize,
    dialect: PhantomData<D>,
}

impl<D: Dialect> Narrator<D> {
    fn tell(&mut self, index: usize, event: Event) -> Result<SseEvent, ApiError> {
        match event {
            Event::Text(text) => Ok(self.chunk(vec![D::text(index, text)])),
            Event::Finished(answered) => {
                self.figures.push(answered);
                Ok(self.chunk(vec![D::closing(index, answered.reason)]))
            }
            Event::Failed(error) => Err(error),
        }
    }

    fn chunk(&self, choices: Vec<D::ChunkChoice>) -> SseEvent {
        data(&self.header.envelope(D::CHUNK_OBJECT, choices, self.include_usage.then_some(None), None))
    }

    fn close(self) -> Vec<SseEvent> {
        if self.figures.len() < self.count {
            return failure(&incomplete());
        }
        let mut last = Vec::new();
        if self.include_usage {
            let usage = Some(Some(self.header.usage(&self.figures)));
            let metrics = Some(self.header.metrics(&self.figures));
            last.push(data(&self.header.envelope(D::CHUNK_OBJECT, Vec::<D::ChunkChoice>::new(), usage, metrics)));
        }
        last.push(done());
        last
    }
}

fn failure(error: &ApiError) -> Vec<SseEvent> {
    vec![data(&error.body()), done()]
}

fn incomplete() -> ApiError {
    ApiError::Generation("the engine stopped before the answer was complete".to_owned())
}

fn done() -> SseEvent {
    SseEvent::default().data("[DONE]")
}

/// Our own types always serialize, and JSON has no line breaks.
fn data(value: &impl Serialize) -> SseEvent {
    SseEvent::default().json_data(value).unwrap_or_default()
}
