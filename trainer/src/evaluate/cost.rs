//! What forwards of the trained checkpoint cost while the prompts are decoded. A machine that others use too is not equally fast all the
//! time: what the cost predicts can be compared with the clock only if both are of the same time. Pure.

use std::collections::BTreeMap;

use cllm_crds::report::ForwardCost;

use super::arms::ratio;

/// Times during a pass at which forwards are timed.
const MOMENTS: u64 = 16;

/// Seconds of forwards, by their rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    /// What was found at each moment.
    found: BTreeMap<usize, Vec<f64>>,
}

impl Costs {
    /// Whether forwards are timed before the prompt at `index` of so many.
    pub(super) fn is_due(index: u64, prompts: u64) -> bool {
        index.is_multiple_of(prompts.div_ceil(MOMENTS).max(1))
    }

    /// Adds pairs of rows and seconds of one moment.
    pub(super) fn add(&mut self, moment: Vec<(usize, f64)>) {
        for (rows, seconds) in moment {
            self.found.entry(rows).or_default().push(seconds);
        }
    }

    /// Means over all moments, ascending in rows, relative to the fewest.
    pub(super) fn means(&self) -> Vec<ForwardCost> {
        let mean = |seconds: &[f64]| seconds.iter().sum::<f64>() / seconds.len() as f64;
        let one = self.found.values().next().map_or(0.0, |seconds| mean(seconds));
        let cost = |(&rows, seconds): (&usize, &Vec<f64>)| {
            let seconds = mean(seconds);
            ForwardCost { rows: rows as u32, seconds, ratio: ratio(seconds, one) }
        };
        self.found.iter().map(cost).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Costs, MOMENTS};

    #[test]
    fn moments_are_spread_over_all_prompts() {
        for (prompts, expected) in [(1, 1), (5, 5), (16, 16), (17, 9), (4000, 16)] {
            let due: Vec<u64> = (0..prompts).filter(|&index| Costs::is_due(index, prompts)).collect();
            assert_eq!((due.len(), due[0]), (expected, 0), "{prompts} prompts");
            assert!(due.len() as u64 <= MOMENTS && prompts - due[due.len() - 1] <= prompts.div_ceil(MOMENTS));
        }
    }

    #[test]
    fn a_cost_is_the_mean_of_fast_and_slow_moments() {
        let mut costs = Costs::default();
        assert!(costs.means().is_empty());
        costs.add(vec![(1, 1.0), (4, 2.0), (8, 3.0)]);
        costs.add(vec![(1, 3.0), (4, 7.0)]);
        let found: Vec<_> = costs.means().iter().map(|cost| (cost.rows, cost.seconds, cost.ratio)).collect();
        assert_eq!(found, [(1, 2.0, 1.0), (4, 4.5, 2.25), (8, 3.0, 1.5)]);
    }
}
