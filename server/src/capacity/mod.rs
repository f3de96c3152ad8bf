//! What a server can deliver: measured before it answers, corrected by what it then delivers. Pure but for the measurement; the time is
//! an argument.

mod measure;

use std::time::Duration;

pub use measure::{MOST_TIME, TOKENS_PER_SLOT, measure};

use crate::throughput::{WINDOW, Window};

/// A correction takes so long for 63 % of the way.
pub const TIME_CONSTANT: Duration = Duration::from_secs(30);

/// Corrections are no closer than this.
const INTERVAL: Duration = Duration::from_secs(1);

/// From this share of a window on, more requests would not have brought more tokens.
const SATURATED: f64 = 0.9;

/// Generated tokens per second with all slots in use, prompts included.
///
/// It rises where more was delivered, whatever the reason, and falls only where the machine was saturated and delivered less: that
/// little is delivered because little is asked for says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// Of the machine, whatever the cap.
    estimate: Option<f64>,
    cap: Option<f64>,
    looked_at: Duration,
}

impl Capacity {
    /// Nothing is known but the cap.
    pub fn capped(max_tokens_per_second: Option<u32>) -> Self {
        Self { cap: max_tokens_per_second.map(f64::from), ..Self::default() }
    }

    /// Starts from what was measured. Without that it starts from the cap, or, without one, from the first saturated window.
    pub fn start(&mut self, measured: Option<f64>) {
        self.estimate = measured.filter(|rate| *rate > 0.0).or(self.cap);
    }

    /// Whether it is time to look at what was delivered.
    pub fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.looked_at) >= INTERVAL
    }

    /// Corrects it by what the window that ends now delivered. One without a token, such as of nothing but long prompts, says nothing.
    pub fn observe(&mut self, now: Duration, Window { tokens_per_second, saturated_share }: Window) {
        let elapsed = now.saturating_sub(self.looked_at).min(WINDOW);
        self.looked_at = now;
        let is_saturated = saturated_share >= SATURATED;
        let is_told = |estimate: f64| tokens_per_second > estimate || is_saturated;
        if tokens_per_second <= 0.0 {
            return;
        }
        match &mut self.estimate {
            Some(estimate) if is_told(*estimate) => {
                let weight = 1.0 - (-elapsed.as_secs_f64() / TIME_CONSTANT.as_secs_f64()).exp();
                *estimate += weight * (tokens_per_second - *estimate);
            }
            None if is_saturated => self.estimate = Some(tokens_per_second),
            Some(_) | None => {}
        }
    }

    /// Tokens per second, at most the cap; absent until something is known.
    pub fn tokens_per_second(&self) -> Option<f64> {
        self.estimate.map(|estimate| self.cap.map_or(estimate, |cap| estimate.min(cap)))
    }

    /// Percent of it that so many tokens per second are; above 100 where it was underestimated.
    pub fn utilization_percent(&self, tokens_per_second: f64) -> Option<f64> {
        self.tokens_per_second().map(|capacity| 100.0 * tokens_per_second / capacity)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn started(measured: f64) -> Capacity {
        let mut capacity = Capacity::default();
        capacity.start(Some(measured));
        capacity
    }

    fn window(tokens_per_second: f64, saturated_share: f64) -> Window {
        Window { tokens_per_second, saturated_share }
    }

    /// Looks once a second at the same window, and tells the estimate after each.
    fn looks(mut capacity: Capacity, window: Window, count: u64) -> Vec<f64> {
        (1..=count)
            .map(|second| {
                capacity.observe(Duration::from_secs(second), window);
                capacity.tokens_per_second().unwrap()
            })
            .collect()
    }

    #[test]
    fn it_rises_with_what_is_delivered_and_falls_only_where_the_machine_was_saturated() {
        for (delivered, saturated_share, expected) in [
            (150.0, 0.0, "rises"),
            (150.0, 1.0, "rises"),
            (50.0, 1.0, "falls"),
            (50.0, 0.9, "falls"),
            (50.0, 0.8, "stays"),
            (50.0, 0.0, "stays"),
            (100.0, 1.0, "stays"),
            (0.0, 1.0, "stays"),
        ] {
            let found = looks(started(100.0), window(delivered, saturated_share), 1)[0];
            let word = match found.total_cmp(&100.0) {
                Ordering::Greater => "rises",
                Ordering::Less => "falls",
                Ordering::Equal => "stays",
            };
            assert_eq!(word, expected, "{delivered} tokens/s, {saturated_share} of the window saturated: {found}");
        }
    }

    #[test]
    fn after_the_time_constant_a_third_of_the_error_is_left() {
        for delivered in [40.0, 300.0] {
            let found = looks(started(100.0), window(delivered, 1.0), TIME_CONSTANT.as_secs())[29];
            let left = (found - delivered) / (100.0 - delivered);
            assert!((left - (-1.0_f64).exp()).abs() < 1e-9, "{left} is left");
        }
    }

    #[test]
    fn a_long_rest_is_no_reason_to_believe_one_window_more_than_another() {
        let mut rested = started(100.0);
        rested.observe(Duration::from_secs(86_400), window(200.0, 1.0));
        let mut busy = started(100.0);
        busy.observe(WINDOW, window(200.0, 1.0));
        assert_eq!(rested.tokens_per_second(), busy.tokens_per_second());
    }

    #[test]
    fn it_is_at_most_the_cap_and_never_made_up() {
        let mut capped = Capacity::capped(Some(80));
        assert_eq!((capped.tokens_per_second(), capped.utilization_percent(40.0)), (None, None));
        capped.start(Some(1000.0));
        assert_eq!((capped.tokens_per_second(), capped.utilization_percent(40.0)), (Some(80.0), Some(50.0)));
        capped.start(Some(60.0));
        assert_eq!(capped.tokens_per_second(), Some(60.0));
        capped.start(None);
        assert_eq!(capped.tokens_per_second(), Some(80.0));

        let mut unknown = Capacity::default();
        unknown.start(None);
        unknown.observe(Duration::from_secs(1), window(50.0, 0.5));
        assert_eq!(unknown.tokens_per_second(), None);
        unknown.observe(Duration::from_secs(2), window(50.0, 1.0));
        assert_eq!((unknown.tokens_per_second(), unknown.utilization_percent(100.0)), (Some(50.0), Some(200.0)));
    }

    proptest! {
        #[test]
        fn it_converges_to_what_a_saturated_machine_delivers(measured in 0.1_f64..1e5, delivered in 0.1_f64..1e5) {
            let estimates = looks(started(measured), window(delivered, 1.0), 1000);
            let errors: Vec<f64> = estimates.iter().map(|estimate| (estimate - delivered).abs()).collect();
            prop_assert!(errors.windows(2).all(|pair| pair[1] <= pair[0]), "{errors:?}");
            prop_assert!(errors[999] <= 1e-9 * (measured + delivered), "{}", errors[999]);
        }

        #[test]
        fn it_stays_between_what_was_measured_and_what_was_seen(
            measured in 0.1_f64..1e5,
            windows in proptest::collection::vec((0.0_f64..1e5, 0.0_f64..1.0, 0_u64..100), 1..100),
        ) {
            let (mut capacity, mut now) = (started(measured), Duration::ZERO);
            let (mut least, mut most) = (measured, measured);
            for (tokens_per_second, saturated_share, seconds) in windows {
                now += Duration::from_secs(seconds);
                capacity.observe(now, window(tokens_per_second, saturated_share));
                if tokens_per_second > 0.0 {
                    (least, most) = (least.min(tokens_per_second), most.max(tokens_per_second));
                }
                let found = capacity.tokens_per_second().unwrap();
                prop_assert!(found > 0.0 && found >= least * (1.0 - 1e-9) && found <= most * (1.0 + 1e-9), "{found}");
            }
        }
    }
}
