//! The engine thread, without HTTP.

use std::{sync::Arc, time::Duration};

use cllm_server::{
    backend::{FinishReason, Forwards, Sampling},
    error::ApiError,
    metrics::{Metrics, Outcome},
    worker::{Answered, Event, Events, Limits, Prompt, Worker},
};

use crate::{
    scripted::{FAIL, FAIL_AT_START, HOLD, PANIC, PANIC_AT_START, Scripted},
    support::eventually,
};

struct Bench {
    worker: Worker,
    backend: Scripted,
    metrics: Arc<Metrics>,
}

fn bench(concurrent: usize, queued: usize) -> Bench {
    bench_with(Limits { concurrent, queued, max_tokens_per_second: None })
}

/// After a forward for a hundred texts the thread pauses for longer than any of these tests waits.
fn pausing() -> Bench {
    bench_with(Limits { concurrent: 101, queued: 1, max_tokens_per_second: Some(1) })
}

fn bench_with(limits: Limits) -> Bench {
    let metrics = Arc::new(Metrics::new("scripted", limits.max_tokens_per_second).unwrap());
    let backend = Scripted::default();
    let worker = Worker::spawn(backend.clone(), limits, Arc::clone(&metrics)).unwrap();
    Bench { worker, backend, metrics }
}

/// A hundred texts in their slots.
async fn hundred(worker: &Worker) -> Events {
    let events = worker.submit(vec![prompt(&"a".repeat(1000)); 100]).unwrap();
    eventually("a hundred running", async || worker.running() == 100).await;
    events
}

fn prompt(text: &str) -> Prompt {
    let tokens = text.bytes().map(u32::from).collect();
    Prompt { tokens, max_tokens: 1000, stops: Vec::new(), sampling: Sampling::default() }
}

async fn outcome(mut events: Events) -> (String, Option<Result<Answered, ApiError>>) {
    let (mut text, mut end) = (String::new(), None);
    while let Some((_, event)) = events.recv().await {
        assert!(end.is_none(), "{event:?} after the end");
        match event {
            Event::Text(more) => text.push_str(&more),
            Event::Finished(answered) => end = Some(Ok(answered)),
            Event::Failed(error) => end = Some(Err(error)),
        }
    }
    (text, end)
}

#[tokio::test]
async fn a_failure_concerns_one_generation_only() {
    let Bench { worker, backend, metrics } = bench(8, 8);
    let beside = worker.submit(vec![prompt(HOLD)]).unwrap();
    for script in [PANIC, FAIL, PANIC_AT_START, FAIL_AT_START] {
        let (_, end) = outcome(worker.submit(vec![prompt(script)]).unwrap()).await;
        assert!(
            matches!(&end, Some(Err(ApiError::Generation(why))) if why.contains("as scripted")),
            "{script}: {end:?}"
        );
    }
    assert_eq!(metrics.count(Outcome::Failed), 4);
    backend.release();
    let (text, end) = outcome(beside).await;
    assert!(text.starts_with("hx") && matches!(end, Some(Ok(_))), "{text} {end:?}");
    assert_eq!(outcome(worker.submit(vec![prompt("still here")]).unwrap()).await.0, "still here");
    worker.idle().await;
    assert_eq!((worker.running(), worker.in_system()), (0, 0));
}

#[tokio::test]
async fn figures_count_what_was_kept() {
    let worker = bench(1, 1).worker;
    let (text, end) = outcome(worker.submit(vec![prompt("1234567")]).unwrap()).await;
    assert_eq!(text, "1234567");
    let forwards = Forwards { decode: 2, drafted: 6 };
    assert_eq!(end, Some(Ok(Answered { reason: FinishReason::Stop, tokens: 7, forwards })));

    // 5 completes the stop string in the middle of the second forward: 6 and 7 are dropped
    let stopped = Prompt { stops: vec!["45".to_owned()], ..prompt("1234567") };
    let (text, end) = outcome(worker.submit(vec![stopped]).unwrap()).await;
    assert_eq!(text, "123");
    assert_eq!(end, Some(Ok(Answered { reason: FinishReason::Stop, tokens: 5, forwards })));
}

#[tokio::test]
async fn a_beginning_of_a_stop_string_is_given_back_at_the_end() {
    let worker = bench(1, 1).worker;
    let held = Prompt { stops: vec!["7!".to_owned()], ..prompt("1234567") };
    assert_eq!(outcome(worker.submit(vec![held]).unwrap()).await.0, "1234567");
}

#[tokio::test]
async fn dropping_the_events_frees_the_slot_and_the_place_in_the_queue() {
    let Bench { worker, metrics, .. } = bench(1, 1);
    let running = worker.submit(vec![prompt(HOLD)]).unwrap();
    let waiting = worker.submit(vec![prompt(HOLD)]).unwrap();
    eventually("running", async || worker.running() == 1).await;
    assert_eq!(worker.waiting(), 1);
    assert!(matches!(worker.submit(vec![prompt("no room")]), Err(ApiError::QueueFull { in_system: 2 })));

    drop(waiting);
    eventually("a free place", async || worker.in_system() == 1).await;
    let next = worker.submit(vec![prompt("next")]).unwrap();
    drop(running);
    assert_eq!(outcome(next).await.0, "next");
    worker.idle().await;
    assert_eq!((metrics.count(Outcome::Cancelled), metrics.count(Outcome::Rejected)), (2, 1));
}

#[tokio::test]
async fn a_list_of_prompts_is_taken_whole_or_not_at_all() {
    let Bench { worker, backend, .. } = bench(2, 1);
    let all = worker.submit(vec![prompt(HOLD), prompt("a"), prompt("b")]).unwrap();
    assert!(matches!(worker.submit(vec![prompt("c")]), Err(ApiError::QueueFull { .. })));
    backend.release();
    drop(all);
    worker.idle().await;
    assert!(worker.submit(vec![prompt("a"); 4]).is_err());
    assert_eq!(worker.in_system(), 0);
}

#[tokio::test]
async fn cutting_off_answers_everybody() {
    let worker = bench(1, 2).worker;
    let all: Vec<_> = (0..3).map(|_| worker.submit(vec![prompt(HOLD)]).unwrap()).collect();
    worker.cut_off();
    for events in all {
        assert_eq!(outcome(events).await.1, Some(Err(ApiError::CutOff)));
    }
    worker.idle().await;
}

#[tokio::test]
async fn a_pause_holds_up_nobody_who_comes_or_leaves() {
    let worker = pausing().worker;
    let events = hundred(&worker).await;
    let next = worker.submit(vec![prompt("next")]).unwrap();
    eventually("a slot for the next", async || worker.running() == 101).await;
    drop(next);
    eventually("its slot to be free", async || worker.running() == 100 && worker.in_system() == 100).await;
    drop(events);
    eventually("all slots to be free", async || worker.running() == 0 && worker.in_system() == 0).await;
    assert!(worker.is_alive(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_pause_holds_up_no_end() {
    let worker = pausing().worker;
    let mut events = hundred(&worker).await;
    worker.cut_off();
    let ended = async {
        let mut ends = 0;
        while let Some((_, event)) = events.recv().await {
            ends += usize::from(event == Event::Failed(ApiError::CutOff));
        }
        ends
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap(), 100);
}

#[tokio::test]
async fn what_runs_goes_on_at_its_pace_when_nobody_can_submit_any_more() {
    let worker = bench_with(Limits { concurrent: 1, queued: 0, max_tokens_per_second: Some(50) }).worker;
    let events = worker.submit(vec![prompt("to the end of it")]).unwrap();
    drop(worker);
    assert_eq!(outcome(events).await.0, "to the end of it");
}
