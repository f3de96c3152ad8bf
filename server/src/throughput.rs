//! Tokens per second over a sliding window. Pure: the time is an argument.

use std::{collections::VecDeque, ops::AddAssign, time::Duration};

/// The length of the window.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Forwards that end within so much time are remembered as one: memory does not grow with their number.
const GRAIN: Duration = Duration::from_millis(50);

/// What a forward gave its generations together, or a few forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Tokens, those that prefills gave too.
    pub tokens: u64,
    /// Tokens of the generations for which it was a decode forward.
    pub decoded_tokens: u64,
    /// Generations for which it was a decode forward.
    pub decode_forwards: u64,
}

impl AddAssign for Generated {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.decoded_tokens += other.decoded_tokens;
        self.decode_forwards += other.decode_forwards;
    }
}

/// What one forward gave, or a few. Times are since any fixed moment and never go back.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was done.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// What it gave.
    pub generated: Generated,
}

/// Remembers the steps of the last [`WINDOW`] in which there were any.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    samples: VecDeque<Sample>,
}

/// What was delivered in the last seconds in which something was generated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivered {
    /// Generated tokens per second of work; idle time does not count.
    pub tokens_per_second: f64,
    /// Tokens per decode forward.
    pub tokens_per_forward: f64,
    /// The time of the last step.
    pub at: Duration,
}

impl Throughput {
    /// Notes a step.
    pub fn record(&mut self, sample: Sample) {
        let oldest = sample.at.saturating_sub(WINDOW);
        while self.samples.front().is_some_and(|first| first.at < oldest) {
            self.samples.pop_front();
        }
        let grain = |at: Duration| at.as_nanos() / GRAIN.as_nanos();
        match self.samples.back_mut() {
            Some(last) if grain(last.at) == grain(sample.at) => {
                last.at = sample.at;
                last.took += sample.took;
                last.generated += sample.generated;
            }
            _ => self.samples.push_back(sample),
        }
    }

    /// Tokens per second over the window that ends now, idle time included: a load, which is 0 at rest. Since a server that
    /// is younger than the window has been idle for less, it is measured over its age.
    pub fn tokens_per_second(&self, now: Duration) -> f64 {
        let oldest = now.saturating_sub(WINDOW);
        let counted = self.samples.iter().filter(|sample| sample.at >= oldest);
        let tokens: u64 = counted.map(|sample| sample.generated.tokens).sum();
        tokens as f64 / now.clamp(Duration::from_secs(1), WINDOW).as_secs_f64()
    }

    /// What the last window with work in it delivered; absent before the first decode forward.
    pub fn delivered(&self) -> Option<Delivered> {
        let mut all = Generated::default();
        let mut worked = Duration::ZERO;
        for sample in &self.samples {
            all += sample.generated;
            worked += sample.took;
        }
        let at = self.samples.iter().rfind(|sample| sample.generated.decode_forwards > 0)?.at;
        (!worked.is_zero()).then(|| Delivered {
            tokens_per_second: all.tokens as f64 / worked.as_secs_f64(),
            tokens_per_forward: all.decoded_tokens as f64 / all.decode_forwards as f64,
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    fn generated(tokens: u64, decode_forwards: u64) -> Generated {
        Generated { tokens, decoded_tokens: if decode_forwards == 0 { 0 } else { tokens }, decode_forwards }
    }

    fn worked() -> Throughput {
        let mut throughput = Throughput::default();
        for (at, took, tokens, forwards) in [(100.0, 1.0, 1, 0), (101.0, 1.0, 30, 10), (109.0, 3.0, 69, 20)] {
            throughput.record(Sample { at: seconds(at), took: seconds(took), generated: generated(tokens, forwards) });
        }
        throughput
    }

    #[test]
    fn tokens_of_prefills_are_no_tokens_of_decode_forwards_however_close_they_come() {
        let mut throughput = Throughput::default();
        for (at, tokens, forwards) in [(1.0, 1, 0), (1.001, 6, 2), (1.002, 1, 0)] {
            throughput.record(Sample { at: seconds(at), took: seconds(1e-3), generated: generated(tokens, forwards) });
        }
        let delivered = throughput.delivered().unwrap();
        assert!((delivered.tokens_per_forward - 3.0).abs() < 1e-9, "{delivered:?}");
        assert!((delivered.tokens_per_second - 8.0 / 3e-3).abs() < 1e-6, "{delivered:?}");
    }

    #[test]
    fn many_forwards_take_no_more_memory_than_some() {
        let mut throughput = Throughput::default();
        for forward in 0..100_000 {
            let at = seconds(f64::from(forward) * 1e-3);
            throughput.record(Sample { at, took: seconds(1e-3), generated: generated(3, 1) });
        }
        assert!(throughput.samples.len() <= 202, "{} samples", throughput.samples.len());
        let now = throughput.tokens_per_second(seconds(100.0));
        assert!((now - 3000.0).abs() < 30.0, "{now}");
        let delivered = throughput.delivered().unwrap();
        assert!((delivered.tokens_per_second - 3000.0).abs() < 1e-6, "{delivered:?}");
        assert_eq!(delivered.at, seconds(99.999));
    }

    #[test]
    fn nothing_is_zero_and_absent() {
        assert!(Throughput::default().tokens_per_second(seconds(100.0)).abs() < f64::EPSILON);
        assert_eq!(Throughput::default().delivered(), None);
    }

    #[test]
    fn the_window_slides_down_to_zero() {
        for (now, expected) in [(109.0, 10.0), (111.0, 9.9), (118.0, 6.9), (130.0, 0.0)] {
            let found = worked().tokens_per_second(seconds(now));
            assert!((found - expected).abs() < 1e-9, "at {now}: {found}");
        }
    }

    #[test]
    fn a_young_server_is_measured_over_its_age() {
        let mut throughput = Throughput::default();
        throughput.record(Sample { at: seconds(2.0), took: seconds(1.0), generated: generated(8, 2) });
        assert!((throughput.tokens_per_second(seconds(4.0)) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_delivered_stays_and_counts_work_only() {
        let delivered = worked().delivered().unwrap();
        assert!((delivered.tokens_per_second - 20.0).abs() < 1e-9, "{delivered:?}");
        assert!((delivered.tokens_per_forward - 3.3).abs() < 1e-9, "{delivered:?}");
        assert_eq!(delivered.at, seconds(109.0));
    }
}
