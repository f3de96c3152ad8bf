//! How far a download is: counted by the workers, read by whoever shows it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pace is that of the last seconds.
const WINDOW: Duration = Duration::from_secs(30);
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// How far a download is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on the disk.
    pub bytes_done: u64,
    /// Bytes altogether; 0 until they are known.
    pub bytes_total: u64,
    /// Of the last seconds; absent until something came.
    pub bytes_per_second: Option<u64>,
    /// Absent until it can be estimated.
    pub estimated_remaining_seconds: Option<u64>,
}

/// Counts bytes.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    total: AtomicU64,
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Meter {
    /// Where it stands.
    pub fn progress(&self) -> Progress {
        let (bytes_done, bytes_total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes_per_second = samples.front().and_then(|(since, then)| pace(bytes_done, *then, since.elapsed()));
        let left = bytes_total.saturating_sub(bytes_done);
        let estimated_remaining_seconds = bytes_per_second.filter(|pace| *pace > 0).map(|pace| left.div_ceil(pace));
        Progress { bytes_done, bytes_total, bytes_per_second, estimated_remaining_seconds }
    }

    /// What is to be done altogether, and what an earlier process did of it.
    pub(crate) fn begin(&self, total: u64, done: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        *samples = VecDeque::from([(Instant::now(), done)]);
    }

    /// More bytes are on the disk.
    pub(crate) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.sample(done);
    }

    /// What another process that does the work has done.
    pub(crate) fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.sample(done);
    }

    /// Bytes that must come again.
    pub(crate) fn take_back(&self, bytes: u64) {
        let left = |done: u64| Some(done.saturating_sub(bytes));
        // it always has a next value
        let _ = self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn sample(&self, done: u64) {
        let now = Instant::now();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_none_or(|(last, _)| now - *last >= SAMPLE_EVERY) {
            samples.push_back((now, done));
        }
        while samples.len() > 2 && samples.front().is_some_and(|(first, _)| now - *first > WINDOW) {
            samples.pop_front();
        }
    }
}

fn pace(now: u64, then: u64, elapsed: Duration) -> Option<u64> {
    let seconds = elapsed.as_secs_f64();
    (now > then && seconds > 0.0).then(|| ((now - then) as f64 / seconds) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_did_does_not_count_into_the_pace() {
        assert_eq!(pace(300, 100, Duration::from_secs(2)), Some(100));
        assert_eq!(pace(100, 100, Duration::from_secs(2)), None);
        let meter = Meter::default();
        assert_eq!(meter.progress(), Progress::default());
        meter.begin(100, 40);
        let progress = meter.progress();
        assert_eq!((progress.bytes_done, progress.bytes_total, progress.bytes_per_second), (40, 100, None));
        meter.add(20);
        meter.take_back(10);
        assert_eq!(meter.progress().bytes_done, 50);
    }
}
