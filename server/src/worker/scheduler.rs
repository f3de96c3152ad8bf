//! The loop of the engine thread: who waits, who runs, whose turn it is. One failing generation never concerns another.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use super::{
    Command, Job, Prompt, Shared,
    generation::{self, Running},
};
use crate::{backend::Backend, error::ApiError, metrics::Metrics};

/// An idle thread shows at least this often that it lives.
const IDLE_BEAT: Duration = Duration::from_secs(1);

pub(super) struct Scheduler<B: Backend> {
    backend: B,
    slots: usize,
    waiting: VecDeque<Job>,
    running: Vec<Running<B>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl<B: Backend> Scheduler<B> {
    pub(super) fn new(backend: B, slots: usize, shared: Arc<Shared>, metrics: Arc<Metrics>) -> Self {
        Self { backend, slots, waiting: VecDeque::new(), running: Vec::new(), shared, metrics }
    }

    /// Until nobody can submit any more and everything is answered.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while self.receive(commands) {
            self.shared.beat();
            self.drop_cancelled_in_queue();
            self.admit();
            self.step_all();
        }
    }

    /// Takes what has been submitted; waits when there is nothing else to do. False when the thread shall end.
    fn receive(&mut self, commands: &Receiver<Command>) -> bool {
        if self.is_idle() {
            match commands.recv_timeout(IDLE_BEAT) {
                Ok(command) => self.accept(command),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match commands.try_recv() {
                Ok(command) => self.accept(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.is_idle(),
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    fn accept(&mut self, command: Command) {
        match command {
            Command::Generate(job) => self.waiting.push_back(job),
            Command::CutOff => {
                for job in self.waiting.drain(..) {
                    generation::fail(&job, ApiError::CutOff, &self.metrics);
                }
                self.shared.running.store(0, Ordering::Relaxed);
                for running in self.running.drain(..) {
                    running.fail(ApiError::CutOff, &self.metrics);
                }
            }
        }
    }

    fn drop_cancelled_in_queue(&mut self) {
        let metrics = &self.metrics;
        self.waiting.retain(|job| {
            let cancelled = job.events.is_closed();
            if cancelled {
                generation::cancel(job, 0, metrics);
            }
            !cancelled
        });
    }

    fn admit(&mut self) {
        while self.running.len() < self.slots
            && let Some(job) = self.waiting.pop_front()
        {
            let backend = &mut self.backend;
            let Prompt { tokens, max_tokens, sampling, stops: _ } = &job.prompt;
            match guarded(|| backend.start(tokens, *max_tokens, sampling)) {
                Ok(state) => self.running.push(Running::new(job, state, &self.metrics)),
                Err(message) => {
                    tracing::error!(message, "the engine failed at the start of a generation");
                    generation::fail(&job, ApiError::Generation(message), &self.metrics);
                }
            }
            self.shared.running.store(self.running.len(), Ordering::Relaxed);
        }
    }

    /// One forward for each; whoever is done gives the slot back before the next turn.
    fn step_all(&mut self) {
        let (backend, metrics, shared) = (&mut self.backend, &self.metrics, &self.shared);
        self.running.retain_mut(|running| {
            shared.beat();
            let goes_on = advance(running, backend, metrics);
            if !goes_on {
                // before its place in the queue becomes free with it: `idle` means that nothing runs
                shared.running.fetch_sub(1, Ordering::Relaxed);
            }
            goes_on
        });
    }
}

/// One forward of a generation; false when it is over.
fn advance<B: Backend>(running: &mut Running<B>, backend: &mut B, metrics: &Metrics) -> bool {
    if running.is_cancelled() {
        running.cancel(metrics);
        return false;
    }
    match guarded(|| running.step(backend, metrics)) {
        Ok(over) => !over,
        Err(message) => {
            tracing::error!(message, "the engine failed in a generation");
            running.fail(ApiError::Generation(message), metrics);
            false
        }
    }
}

/// A panic of the engine becomes the error of one generation: its state is dropped and nothing else was touched.
fn guarded<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(format!("the engine panicked: {}", words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
