//! The engine thread and the door to it. Handlers submit prompts and receive events; they never touch the engine.
//! One thread owns all generations and runs one forward after the other for all of them.

mod generation;
mod scheduler;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use cllm_engine::Sampling;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc::UnboundedReceiver, mpsc::UnboundedSender};

use self::scheduler::Scheduler;
use crate::{
    backend::{Backend, FinishReason, Forwards},
    error::ApiError,
    metrics::Metrics,
};

/// A prompt, the limits of its answer and how that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Not empty.
    pub tokens: Vec<u32>,
    /// At least 1; together with the prompt within the context.
    pub max_tokens: usize,
    /// None is empty.
    pub stops: Vec<String>,
    /// Good for the vocabulary of the model.
    pub sampling: Sampling,
}

/// What happens to one prompt of a request: any number of texts, then one of the others.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// More of the answer; never empty.
    Text(String),
    /// The answer is complete.
    Finished(Answered),
    /// The answer will not be complete.
    Failed(ApiError),
}

/// The figures of a complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Why it ended.
    pub reason: FinishReason,
    /// Generated tokens, the end of sequence or the tokens of a stop string included.
    pub tokens: usize,
    /// What they took.
    pub forwards: Forwards,
}

/// Events with the place of their prompt in the request. Dropping it cancels what is still running.
pub type Events = UnboundedReceiver<(usize, Event)>;

/// The limits of the thread.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Generations at the same time.
    pub concurrent: usize,
    /// Generations that may wait.
    pub queued: usize,
    /// Generated tokens per second of all of them together; absent: as many as the machine can.
    pub max_tokens_per_second: Option<u32>,
}

enum Command {
    Generate(Job),
    CutOff,
}

/// One prompt on its way through the thread. The permit is given back when the job is dropped, however it ends.
struct Job {
    prompt: Prompt,
    index: usize,
    events: UnboundedSender<(usize, Event)>,
    arrived: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Job {
    fn send(&self, event: Event) {
        // nobody listens any more: the next turn sees that and cancels
        drop(self.events.send((self.index, event)));
    }
}

/// What the thread shows of itself.
struct Shared {
    running: AtomicUsize,
    alive: AtomicBool,
    turns: AtomicU64,
    started: Instant,
}

impl Shared {
    fn beat(&self) {
        self.turns.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// Sets `alive` to false when the thread ends, also by a panic.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Relaxed);
    }
}

/// The door to the engine thread.
#[derive(Clone)]
pub struct Worker {
    commands: mpsc::Sender<Command>,
    permits: Arc<Semaphore>,
    capacity: usize,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Worker {
    /// Starts the thread. It ends when the last clone of the door is gone.
    pub fn spawn<B: Backend>(backend: B, limits: Limits, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            alive: AtomicBool::new(true),
            turns: AtomicU64::new(0),
            started: Instant::now(),
        });
        let capacity = limits.concurrent + limits.queued;
        let alive = Alive(Arc::clone(&shared));
        let for_thread = Arc::clone(&metrics);
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            Scheduler::new(backend, limits, Arc::clone(&alive.0), for_thread).run(&received);
        })?;
        Ok(Self { commands, permits: Arc::new(Semaphore::new(capacity)), capacity, shared, metrics })
    }

    /// Hands over the prompts of one request: all of them, or none when there is no room.
    pub fn submit(&self, prompts: Vec<Prompt>) -> Result<Events, ApiError> {
        let (events, receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut permits = self.reserve(prompts.len())?;
        let arrived = Instant::now();
        for (index, prompt) in prompts.into_iter().enumerate() {
            let permit = permits.split(1).ok_or(ApiError::QueueFull { in_system: self.in_system() })?;
            let job = Job { prompt, index, events: events.clone(), arrived, _permit: permit };
            self.commands
                .send(Command::Generate(job))
                .map_err(|_| ApiError::Generation("the engine has stopped".to_owned()))?;
        }
        Ok(receiver)
    }

    fn reserve(&self, count: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Arc::clone(&self.permits).try_acquire_many_owned(count).map_err(|error| match error {
            TryAcquireError::NoPermits => {
                self.metrics.ended(crate::metrics::Outcome::Rejected);
                ApiError::QueueFull { in_system: self.in_system() }
            }
            TryAcquireError::Closed => ApiError::Draining,
        })
    }

    /// Prompts that can be in the server at once.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Prompts that wait or run.
    pub fn in_system(&self) -> usize {
        self.capacity - self.permits.available_permits()
    }

    /// Generations that have a slot.
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed)
    }

    /// Prompts without a slot yet.
    pub fn waiting(&self) -> usize {
        self.in_system().saturating_sub(self.running())
    }

    /// The thread lives, and its last turn is at most `tolerance` ago. Does not look at the queue.
    pub fn is_alive(&self, tolerance: Duration) -> bool {
        let last = Duration::from_millis(self.shared.turns.load(Ordering::Relaxed));
        self.shared.alive.load(Ordering::Relaxed) && self.shared.started.elapsed().saturating_sub(last) <= tolerance
    }

    /// Returns when nothing waits or runs. Once called, nothing should be submitted any more.
    pub async fn idle(&self) {
        let all = u32::try_from(self.capacity).unwrap_or(u32::MAX);
        drop(self.permits.acquire_many(all).await);
    }

    /// Ends everything that waits or runs with [`ApiError::CutOff`].
    pub fn cut_off(&self) {
        // a thread that is gone has nothing to cut off
        drop(self.commands.send(Command::CutOff));
    }
}
