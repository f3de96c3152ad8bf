//! The loop of the engine thread: who waits, who runs. All who run share each forward; one failing generation never concerns another.

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
    Command, Job, Limits, Prompt, Shared,
    generation::{self, Running},
};
use crate::{
    backend::{Backend, Step},
    error::ApiError,
    metrics::Metrics,
    pacing::Pacing,
    throughput::Generated,
};

/// An idle thread shows at least this often that it lives.
const IDLE_BEAT: Duration = Duration::from_secs(1);
/// A thread that pauses looks at least this often for whoever went away.
const PAUSE_BEAT: Duration = Duration::from_millis(50);

pub(super) struct Scheduler<B: Backend> {
    backend: B,
    slots: usize,
    /// Where tokens per second are capped.
    pacing: Option<Pacing>,
    waiting: VecDeque<Job>,
    running: Vec<Running<B>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl<B: Backend> Scheduler<B> {
    pub(super) fn new(backend: B, limits: Limits, shared: Arc<Shared>, metrics: Arc<Metrics>) -> Self {
        let Limits { concurrent: slots, queued: _, max_tokens_per_second } = limits;
        let pacing = max_tokens_per_second.map(Pacing::new);
        Self { backend, slots, pacing, waiting: VecDeque::new(), running: Vec::new(), shared, metrics }
    }

    /// Until nobody can submit any more and everything is answered.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while self.receive(commands) {
            self.shared.beat();
            self.drop_cancelled_in_queue();
            self.drop_cancelled();
            self.admit();
            if self.pause().is_zero() {
                self.step_all();
            }
        }
    }

    /// Takes what has been submitted; waits when there is nothing else to do. False when the thread shall end.
    fn receive(&mut self, commands: &Receiver<Command>) -> bool {
        if let Some(longest) = self.wait() {
            match commands.recv_timeout(longest) {
                Ok(command) => self.accept(command),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) if self.is_idle() => return false,
                // what runs goes on at its pace
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(longest),
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

    /// How long to wait for something to be submitted, at most; absent where there is a forward to begin.
    fn wait(&self) -> Option<Duration> {
        if self.is_idle() {
            return Some(IDLE_BEAT);
        }
        let pause = self.pause();
        (!pause.is_zero()).then(|| pause.min(PAUSE_BEAT))
    }

    /// Until the next forward may begin.
    fn pause(&self) -> Duration {
        self.pacing.as_ref().map_or(Duration::ZERO, |pacing| pacing.pause(self.shared.started.elapsed()))
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// More requests would not bring more tokens.
    fn is_saturated(&self) -> bool {
        self.running.len() == self.slots || !self.waiting.is_empty()
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

    /// Whoever went away gives the slot back.
    fn drop_cancelled(&mut self) {
        let (backend, metrics, shared) = (&mut self.backend, &self.metrics, &self.shared);
        self.running.retain(|running| {
            let cancelled = running.is_cancelled();
            if cancelled {
                backend.end(running.state());
                running.cancel(metrics);
                shared.running.fetch_sub(1, Ordering::Relaxed);
            }
            !cancelled
        });
    }

    /// One forward for all; whoever is done gives the slot back before the next.
    fn step_all(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let (began, is_saturated) = (self.shared.started.elapsed(), self.is_saturated());
        let steps = self.steps();
        let (backend, metrics, shared) = (&mut self.backend, &self.metrics, &self.shared);
        // what is told to a client can be read on the page
        metrics.memory(backend.memory());
        let mut steps = steps.into_iter();
        let mut generated = Generated::default();
        self.running.retain_mut(|running| {
            let is_over = match steps.next() {
                Some(Ok(step)) => {
                    let taken = running.take_step(step, backend.forwards(running.state()), metrics);
                    generated += taken.generated;
                    if taken.is_over {
                        backend.end(running.state());
                    }
                    taken.is_over
                }
                Some(Err(message)) => {
                    tracing::error!(message, "the engine failed in a generation");
                    running.fail(ApiError::Generation(message), metrics);
                    true
                }
                None => false,
            };
            if is_over {
                // before its place in the queue becomes free with it: `idle` means that nothing runs
                shared.running.fetch_sub(1, Ordering::Relaxed);
            }
            !is_over
        });
        metrics.shared_forward(generated, shared.started.elapsed().saturating_sub(began), is_saturated);
        metrics.memory(backend.memory());
        if let Some(pacing) = &mut self.pacing {
            pacing.brought(generated.tokens, began);
        }
    }

    /// The step of each generation: of one forward for all, or, where that fails, of one for each, so that only the cause suffers.
    fn steps(&mut self) -> Vec<Result<Step, String>> {
        let backend = &mut self.backend;
        let mut states: Vec<_> = self.running.iter_mut().map(Running::state_mut).collect();
        match guarded(|| backend.step(&mut states)) {
            Ok(steps) => steps.into_iter().map(Ok).collect(),
            Err(message) if states.len() == 1 => vec![Err(message)],
            Err(message) => {
                tracing::warn!(message, "the engine failed in a shared forward; each generation gets its own");
                let alone = |state| {
                    self.shared.beat();
                    guarded(|| backend.step(&mut [state])).map(|steps| steps.into_iter().next().unwrap_or_default())
                };
                states.into_iter().map(alone).collect()
            }
        }
    }
}

/// A panic of the engine becomes an error.
fn guarded<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(format!("the engine panicked: {}", words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
