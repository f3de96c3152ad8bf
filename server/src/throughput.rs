//! Tokens per second over a sliding window. Pure: the time is an argument.

use std::{collections::VecDeque, time::Duration};

/// The length of the window.
pub const WINDOW: Duration = Duration::from_secs(10);

/// What was generated in one forward.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    tokens: u64,
    forwards: u64,
}

/// Remembers the forwards of the last [`WINDOW`]. Times are since any fixed moment and never go back.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    samples: VecDeque<Sample>,
}

/// The rates over the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Generated tokens per second of the window; 0 when nothing was generated.
    pub tokens_per_second: f64,
    /// Tokens per decode forward; absent without a decode forward.
    pub tokens_per_forward: Option<f64>,
}

impl Throughput {
    /// Notes `tokens` that came out of `forwards` decode forwards (0 for the prefill, whose token counts for the rate only).
    pub fn record(&mut self, at: Duration, tokens: u64, forwards: u64) {
        self.forget_before(at);
        self.samples.push_back(Sample { at, tokens, forwards });
    }

    /// The rates at a moment. A server that is younger than the window is measured over its age.
    pub fn rates(&mut self, now: Duration) -> Rates {
        self.forget_before(now);
        let tokens: u64 = self.samples.iter().map(|sample| sample.tokens).sum();
        let forwards: u64 = self.samples.iter().map(|sample| sample.forwards).sum();
        let decoded: u64 = self.samples.iter().filter(|sample| sample.forwards > 0).map(|sample| sample.tokens).sum();
        Rates {
            tokens_per_second: tokens as f64 / now.clamp(Duration::from_secs(1), WINDOW).as_secs_f64(),
            tokens_per_forward: (forwards > 0).then(|| decoded as f64 / forwards as f64),
        }
    }

    fn forget_before(&mut self, now: Duration) {
        let oldest = now.saturating_sub(WINDOW);
        while self.samples.front().is_some_and(|sample| sample.at < oldest) {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    #[test]
    fn nothing_is_zero() {
        let rates = Throughput::default().rates(seconds(100.0));
        assert_eq!(rates, Rates { tokens_per_second: 0.0, tokens_per_forward: None });
    }

    #[test]
    fn the_window_slides() {
        let mut throughput = Throughput::default();
        throughput.record(seconds(100.0), 1, 0);
        throughput.record(seconds(101.0), 30, 10);
        throughput.record(seconds(109.0), 69, 20);
        let all = throughput.rates(seconds(109.0));
        assert!((all.tokens_per_second - 10.0).abs() < 1e-9, "{all:?}");
        assert_eq!(all.tokens_per_forward, Some(3.3));
        let later = throughput.rates(seconds(118.0));
        assert!((later.tokens_per_second - 6.9).abs() < 1e-9, "{later:?}");
        assert_eq!(throughput.rates(seconds(130.0)).tokens_per_second.to_bits(), 0.0_f64.to_bits());
    }
}
