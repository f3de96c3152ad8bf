#![expect(
    unsafe_code,
    reason = "workers call a closure on the caller's stack; the pool waits for them before it returns"
)]
//! A tiny pool for loops of microseconds: the calling thread works too, idle workers spin for a moment and then sleep.
//!
//! Pieces of a loop are claimed one by one, so that a worker which the system keeps waiting delays nobody: the caller does its
//! share. Who does which piece never changes a result, as pieces write disjoint values.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{hint, ptr};

use super::shared::SharedMut;

/// Spins of an idle worker before it sleeps: some tens of microseconds, longer than the gaps within a forward.
const IDLE_SPINS: u32 = 4_000;
/// Spins of a caller before it lets others run while a worker finishes its piece.
const WAIT_SPINS: u32 = 5_000;
/// Stands for "no more work, ever" where the number of unclaimed pieces stands otherwise.
const STOP: u64 = u32::MAX as u64;

type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// Workers that help any calling thread. Callers on several threads do not wait for each other: whoever finds the workers busy
/// works alone.
#[derive(Debug)]
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    /// Held by the caller whom the workers help.
    owner: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Upper half: number of the current job. Lower half: its pieces that nobody has claimed.
    state: AtomicU64,
    /// Points to the current job's `Job` while a piece of it is unclaimed or running.
    job: AtomicPtr<()>,
    unfinished: AtomicUsize,
    panicked: AtomicUsize,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl ThreadPool {
    /// A pool with which a calling thread computes as `threads` threads.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: AtomicPtr::new(ptr::null_mut()),
            unfinished: AtomicUsize::new(0),
            panicked: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut pool = Self { shared, owner: Mutex::new(()), workers: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = thread::Builder::new().name(format!("cllm-compute-{index}")).spawn(move || shared.work())?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Number of threads, the calling one included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(i)` once for every `i < pieces`, on any thread and in any order, and returns when all calls have.
    pub(crate) fn run(&self, pieces: usize, job: impl Fn(usize) + Sync) {
        if pieces <= 1 || self.workers.is_empty() {
            return (0..pieces).for_each(job);
        }
        match self.owner.try_lock() {
            Ok(_owner) => self.shared.run(pieces, &job),
            Err(_) => (0..pieces).for_each(job),
        }
    }

    /// Splits `values` into pieces of `length`, the last one shorter perhaps, and calls `job(index, piece)` for each.
    pub(crate) fn run_chunks<T: Send>(&self, values: &mut [T], length: usize, job: impl Fn(usize, &mut [T]) + Sync) {
        let count = values.len();
        let values = SharedMut::new(values);
        self.run(count.div_ceil(length), |index| {
            let start = index * length;
            // SAFETY: pieces of different indices do not overlap, and each index is one piece of the job.
            job(index, unsafe { values.part(start, length.min(count - start)) });
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.publish(STOP);
        for worker in self.workers.drain(..) {
            // A worker that panicked has already made its caller panic.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn run(&self, pieces: usize, job: Job<'_>) {
        let job_pointer: *const Job<'_> = &raw const job;
        self.job.store(job_pointer.cast_mut().cast(), Ordering::Relaxed);
        self.unfinished.store(pieces, Ordering::Relaxed);
        self.publish(pieces as u64);
        while self.claim().is_some_and(|piece| self.call(piece)) {}
        let mut spins = 0;
        // All pieces have returned before this function does, so `job` outlives every call.
        while self.unfinished.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < WAIT_SPINS { hint::spin_loop() } else { thread::yield_now() }
        }
        assert!(self.panicked.swap(0, Ordering::Relaxed) == 0, "a compute thread panicked");
    }

    /// Begins a new job of so many pieces and wakes whoever sleeps.
    fn publish(&self, pieces: u64) {
        let number = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1) & STOP;
        self.state.store(number << 32 | pieces, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
    }

    /// Takes one unclaimed piece of the current job.
    fn claim(&self) -> Option<usize> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let left = state & STOP;
            if left == 0 || left == STOP {
                return None;
            }
            match self.state.compare_exchange_weak(state, state - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(left as usize - 1),
                Err(now) => state = now,
            }
        }
    }

    /// Calls the current job for a piece that was claimed. Always true.
    fn call(&self, piece: usize) -> bool {
        let job_pointer: *const Job<'_> = self.job.load(Ordering::Relaxed).cast_const().cast();
        // SAFETY: the claim pins the job: its `run` returns only when this piece has been counted as finished below, and the
        // pointer was stored before the state from which the piece was claimed.
        let job = unsafe { *job_pointer };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(piece))).is_err() {
            self.panicked.fetch_add(1, Ordering::Relaxed);
        }
        self.unfinished.fetch_sub(1, Ordering::Release);
        true
    }

    /// The life of a worker.
    fn work(&self) {
        loop {
            while self.claim().is_some_and(|piece| self.call(piece)) {}
            if self.idle() == STOP {
                return;
            }
        }
    }

    /// Waits, first spinning, then sleeping, until there are unclaimed pieces. Returns their number, or `STOP`.
    fn idle(&self) -> u64 {
        for _ in 0..IDLE_SPINS {
            let left = self.state.load(Ordering::Acquire) & STOP;
            if left > 0 {
                return left;
            }
            hint::spin_loop();
        }
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let left = loop {
            let left = self.state.load(Ordering::SeqCst) & STOP;
            if left > 0 {
                break left;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        left
    }
}
