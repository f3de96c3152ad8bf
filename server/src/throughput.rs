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
    /// For how much of that all slots were in use, or requests waited.
    pub saturated: Duration,
    /// What it gave.
    pub generated: Generated,
}

/// Remembers the steps of the last [`WINDOW`] in which there were any.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    samples: VecDeque<Sample>,
}

/// The last seconds, whatever happened in them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Generated tokens per second, idle time included: a load, which is 0 at rest.
    pub tokens_per_second: f64,
    /// Share of the time in which forwards ran with all slots in use, or with requests waiting, of 1.
    pub saturated_share: f64,
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
                last.saturated += sample.saturated;
                last.generated += sample.generated;
            }
            _ => self.samples.push_back(sample),
        }
    }

    /// The window that ends now. Since a server that is younger than it has been idle for less, it is as long as the server is old.
    pub fn window(&self, now: Duration) -> Window {
        let oldest = now.saturating_sub(WINDOW);
        let length = now.clamp(Duration::from_secs(1), WINDOW).as_secs_f64();
        let (mut tokens, mut saturated) = (0, Duration::ZERO);
        for sample in self.samples.iter().filter(|sample| sample.at >= oldest) {
            tokens += sample.generated.tokens;
            saturated += sample.saturated;
        }
        Window {
            tokens_per_second: tokens as f64 / length,
            saturated_share: (saturated.as_secs_f64() / length).min(1.0),
        }
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

    fn sample(at: f64, took: f64, generated: Generated) -> Sample {
        Sample { at: seconds(at), took: seconds(took), saturated: Duration::ZERO, generated }
    }

    fn worked() -> Throughput {
        let mut throughput = Throughput::default();
        for (at, took, tokens, forwards) in [(100.0, 1.0, 1, 0), (101.0, 1.0, 30, 10), (109.0, 3.0, 69, 20)] {
            throughput.record(sample(at, took, generated(tokens, forwards)));
        }
        throughput
    }

    #[test]
    fn tokens_of_prefills_are_no_tokens_of_decode_forwards_however_close_they_come() {
        let mut throughput = Throughput::default();
        for (at, tokens, forwards) in [(1.0, 1, 0), (1.001, 6, 2), (1.002, 1, 0)] {
            throughput.record(sample(at, 1e-3, generated(tokens, forwards)));
        }
        let delivered = throughput.delivered().unwrap();
        assert!((delivered.tokens_per_forward - 3.0).abs() < 1e-9, "{delivered:?}");
        assert!((delivered.tokens_per_second - 8.0 / 3e-3).abs() < 1e-6, "{delivered:?}");
    }

    #[test]
    fn many_forwards_take_no_more_memory_than_some() {
        let mut throughput = Throughput::default();
        for forward in 0..100_000 {
            throughput.record(sample(f64::from(forward) * 1e-3, 1e-3, generated(3, 1)));
        }
        assert!(throughput.samples.len() <= 202, "{} samples", throughput.samples.len());
        let now = throughput.window(seconds(100.0)).tokens_per_second;
        assert!((now - 3000.0).abs() < 30.0, "{now}");
        let delivered = throughput.delivered().unwrap();
        assert!((delivered.tokens_per_second - 3000.0).abs() < 1e-6, "{delivered:?}");
        assert_eq!(delivered.at, seconds(99.999));
    }

    #[test]
    fn nothing_is_zero_and_absent() {
        let nothing = Window { tokens_per_second: 0.0, saturated_share: 0.0 };
        assert_eq!(Throughput::default().window(seconds(100.0)), nothing);
        assert_eq!(Throughput::default().delivered(), None);
    }

    #[test]
    fn the_window_slides_down_to_zero() {
        for (now, expected) in [(109.0, 10.0), (111.0, 9.9), (118.0, 6.9), (130.0, 0.0)] {
            let found = worked().window(seconds(now)).tokens_per_second;
            assert!((found - expected).abs() < 1e-9, "at {now}: {found}");
        }
    }

    #[test]
    fn a_young_server_is_measured_over_its_age() {
        let mut throughput = Throughput::default();
        throughput.record(sample(2.0, 1.0, generated(8, 2)));
        assert!((throughput.window(seconds(4.0)).tokens_per_second - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_window_is_saturated_for_as_long_as_forwards_ran_with_all_slots_in_use() {
        let mut throughput = Throughput::default();
        for (at, took, saturated) in
            [(95.0, 9.0, 9.0), (101.0, 2.0, 2.0), (101.01, 0.01, 0.01), (104.0, 3.0, 0.0), (107.0, 2.0, 2.0)]
        {
            throughput.record(Sample { saturated: seconds(saturated), ..sample(at, took, generated(1, 1)) });
        }
        for (now, expected) in [(107.0, 0.401), (111.02, 0.2), (118.0, 0.0)] {
            let found = throughput.window(seconds(now)).saturated_share;
            assert!((found - expected).abs() < 1e-9, "at {now}: {found}");
        }
        throughput.record(Sample { saturated: seconds(30.0), ..sample(140.0, 30.0, generated(1, 1)) });
        assert!((throughput.window(seconds(140.0)).saturated_share - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_delivered_stays_and_counts_work_only() {
        let delivered = worked().delivered().unwrap();
        assert!((delivered.tokens_per_second - 20.0).abs() < 1e-9, "{delivered:?}");
        assert!((delivered.tokens_per_forward - 3.3).abs() < 1e-9, "{delivered:?}");
        assert_eq!(delivered.at, seconds(109.0));
    }
}
