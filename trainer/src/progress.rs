//! How far a stage is: for the status page, for a terminal as a bar, for a log as a line every few seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cllm_crds::status_page::{JobStage, Metric, Progress, TrainerStatus};
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::{Failure, Result};

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What the status page shows; shared with the thread that serves it.
pub type SharedStatus = Arc<Mutex<TrainerStatus>>;

/// Reports progress, and says when to stop.
#[derive(Debug)]
pub struct Reporter {
    status: SharedStatus,
    interrupted: Arc<AtomicBool>,
    bar: Option<ProgressBar>,
    /// When the first update came, and with how much done.
    begun: Option<(Instant, u64)>,
    logged: Instant,
}

/// A status of nothing done yet.
pub fn new_status(stage: JobStage) -> SharedStatus {
    Arc::new(Mutex::new(TrainerStatus {
        stage,
        progress: Progress { last_updated_time: now(), ..Progress::default() },
    }))
}

/// The present time, RFC 3339 in UTC, to the second.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A status even where a thread died while it held it: any value is better than none.
pub fn lock(status: &SharedStatus) -> MutexGuard<'_, TrainerStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reporter {
    /// `terminal`: draw a bar instead of writing log lines.
    pub fn new(status: SharedStatus, interrupted: Arc<AtomicBool>, terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent}% {msg} eta {eta}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        if let Some(bar) = &bar {
            bar.set_prefix(format!("{:?}", lock(&status).stage).to_lowercase());
        }
        Self { status, interrupted, bar, begun: None, logged: Instant::now() }
    }

    /// Says that `done` of `total` units are done. The first call sets where the rate is measured from.
    pub fn update(&mut self, done: u64, total: u64, metrics: &[(&str, String)]) {
        let (begun, begun_at) = *self.begun.get_or_insert_with(|| (Instant::now(), done));
        let progress = Progress {
            progress_percentage: (100 * done).checked_div(total).unwrap_or(100).min(100) as u32,
            estimated_remaining_seconds: remaining(
                done.saturating_sub(begun_at),
                total.saturating_sub(done),
                begun.elapsed(),
            ),
            metrics: metrics
                .iter()
                .map(|(name, value)| Metric { name: (*name).to_owned(), value: value.clone() })
                .collect(),
            last_updated_time: now(),
        };
        self.show(done, total, &progress);
        lock(&self.status).progress = progress;
    }

    /// What follows is counted in other units, so its pace is measured anew.
    pub fn restart(&mut self) {
        self.begun = None;
    }

    /// Fails once SIGTERM or SIGINT has come.
    pub fn check_interruption(&self) -> Result<()> {
        if self.is_interrupted() { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Whether SIGTERM or SIGINT has come.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Becomes true when SIGTERM or SIGINT comes.
    pub(crate) fn interruption(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    /// A line beside the bar or in the log.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.println(text);
        } else {
            tracing::info!("{text}");
        }
    }

    fn show(&mut self, done: u64, total: u64, progress: &Progress) {
        let metrics: Vec<String> = progress.metrics.iter().map(|m| format!("{} {}", m.name, m.value)).collect();
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(metrics.join(", "));
        } else if done == total || self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            let eta = progress.estimated_remaining_seconds.map_or_else(String::new, |eta| format!(", {eta} s left"));
            tracing::info!("{done} of {total} ({} %){eta}: {}", progress.progress_percentage, metrics.join(", "));
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Seconds for `left` units at the pace of the `done` ones.
fn remaining(done: u64, left: u64, elapsed: Duration) -> Option<u64> {
    (done > 0).then(|| (elapsed.as_secs_f64() * left as f64 / done as f64).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_follows_the_pace_since_the_start() {
        let second = Duration::from_secs(1);
        assert_eq!(remaining(0, 10, second), None);
        assert_eq!(remaining(4, 8, second), Some(2));
        assert_eq!(remaining(4, 0, second), Some(0));
    }

    #[test]
    fn updates_reach_the_status() {
        let status = new_status(JobStage::Training);
        let mut reporter = Reporter::new(status.clone(), Arc::default(), false);
        reporter.update(3, 12, &[("loss", "1.5".to_owned())]);
        let progress = lock(&status).progress.clone();
        assert_eq!(progress.progress_percentage, 25);
        assert_eq!(progress.metrics, [Metric { name: "loss".to_owned(), value: "1.5".to_owned() }]);
        reporter.update(0, 0, &[]);
        assert_eq!(lock(&status).progress.progress_percentage, 100);
    }
}
