//! The cap on generated tokens per second: when the next forward may begin. Pure: the time is an argument.

use std::time::Duration;

/// So much of a pause may be made up for by a thread that woke up late; without it every pause would cost a little of the cap.
pub const SLACK: Duration = Duration::from_millis(50);

/// A token bucket that may be overdrawn by one forward, since how many tokens it brings is known only afterwards: the next one begins
/// when everything before it is paid for.
///
/// In any window there are at most cap × (window + [`SLACK`]) tokens and those of two forwards, one at each edge. Times are since any
/// fixed moment.
#[derive(Clone, Debug)]
pub struct Pacing {
    seconds_per_token: f64,
    paid_at: Duration,
}

impl Pacing {
    /// Nothing is owed yet. The cap is at least 1.
    pub fn new(max_tokens_per_second: u32) -> Self {
        Self { seconds_per_token: 1.0 / f64::from(max_tokens_per_second.max(1)), paid_at: Duration::ZERO }
    }

    /// A forward that began then brought so many tokens. What it took counts as time that passed.
    pub fn brought(&mut self, tokens: u64, began: Duration) {
        let price = Duration::from_secs_f64(tokens as f64 * self.seconds_per_token);
        self.paid_at = self.paid_at.max(began.saturating_sub(SLACK)) + price;
    }

    /// How long to wait before the next forward.
    pub fn pause(&self, now: Duration) -> Duration {
        self.paid_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens around one forward, in milliseconds.
    #[derive(Clone, Copy, Debug)]
    struct Turn {
        idle: u64,
        wakes_late: u64,
        takes: u64,
        tokens: u64,
    }

    fn turn(tokens: u64) -> Turn {
        Turn { idle: 0, wakes_late: 0, takes: 1, tokens }
    }

    /// The tokens of each forward with the time of its end.
    fn delivered(cap: u32, turns: &[Turn]) -> Vec<(Duration, u64)> {
        let (mut pacing, mut now) = (Pacing::new(cap), Duration::ZERO);
        let forward = |turn: &Turn| {
            now += Duration::from_millis(turn.idle);
            let pause = pacing.pause(now);
            now += if pause.is_zero() { pause } else { pause + Duration::from_millis(turn.wakes_late) };
            let began = now;
            now += Duration::from_millis(turn.takes);
            pacing.brought(turn.tokens, began);
            (now, turn.tokens)
        };
        turns.iter().map(forward).collect()
    }

    fn rate(delivered: &[(Duration, u64)]) -> f64 {
        let tokens: u64 = delivered.iter().map(|(_, tokens)| tokens).sum();
        delivered.last().map_or(0.0, |(end, _)| tokens as f64 / end.as_secs_f64())
    }

    #[test]
    fn the_cap_is_reached_by_whoever_could_deliver_more_and_costs_nobody_else_anything() {
        for (cap, wakes_late, takes, tokens, expected) in [
            (100, 0, 1, 4, 100.0),
            (100, 10, 1, 4, 100.0),
            (7, 0, 1, 24, 7.0),
            (5000, 1, 1, 8, 5000.0),
            (100, 0, 100, 4, 40.0),
            (100, 0, 40, 4, 100.0),
        ] {
            let turns = vec![Turn { idle: 0, wakes_late, takes, tokens }; 2000];
            let found = rate(&delivered(cap, &turns));
            assert!((found - expected).abs() < 0.02 * expected, "{found} instead of {expected} with a cap of {cap}");
        }
    }

    #[test]
    fn rest_is_not_saved_up_and_prefills_owe_nothing() {
        let mut pacing = Pacing::new(10);
        let hour = Duration::from_secs(3600);
        pacing.brought(20, hour);
        assert_eq!(pacing.pause(hour), Duration::from_secs(2).checked_sub(SLACK).unwrap());
        assert_eq!(pacing.pause(hour + Duration::from_secs(2)), Duration::ZERO);
        assert!(delivered(1, &[turn(0); 50]).iter().all(|(end, _)| end.as_millis() <= 50));
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_the_cap_and_two_forwards(
            cap in 1_u32..2000,
            turns in proptest::collection::vec((0_u64..3000, 0_u64..120, 0_u64..400, 0_u64..64), 1..60),
        ) {
            let turns: Vec<Turn> = turns
                .into_iter()
                .map(|(idle, wakes_late, takes, tokens)| Turn { idle: idle.saturating_sub(2000), wakes_late, takes, tokens })
                .collect();
            let delivered = delivered(cap, &turns);
            let largest = turns.iter().map(|turn| turn.tokens).max().unwrap();
            for (index, (first, _)) in delivered.iter().enumerate() {
                let mut tokens = 0_u64;
                for (last, of_forward) in &delivered[index..] {
                    tokens += of_forward;
                    let window = (last.checked_sub(*first).unwrap() + SLACK).as_secs_f64();
                    let most = f64::from(cap) * window + 2.0 * largest as f64 + 1e-3;
                    prop_assert!(tokens as f64 <= most, "{tokens} tokens, but at most {most}");
                }
            }
        }
    }
}
