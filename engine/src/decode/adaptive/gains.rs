//! What rows bring: tokens per forward by the number of rows.

use super::SIZES;

/// A forward counts half as much after so many others of its size.
const HALF_LIFE: f64 = 320.0;
/// What a forward of a larger size counts for.
const OF_A_LARGER_SIZE: f64 = 0.25;
/// Forwards that what is typical counts for.
const PRIOR: f64 = 8.0;
/// Standard deviations of a mean that it may be off by.
const DEVIATIONS: f64 = 1.5;
/// Forwards without a gain that [`Gains::doubtful`] begin with.
const DOUBT: f64 = 4.0;

/// Tokens emitted per forward with each of [`SIZES`], recent forwards first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gains {
    sizes: [Gain; SIZES.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Gain {
    mean: f64,
    /// Forwards that the mean stands for.
    weight: f64,
}

impl Gain {
    fn count(&mut self, emitted: usize, weight: f64) {
        self.weight = self.weight * 0.5_f64.powf(weight / HALF_LIFE) + weight;
        self.mean += (emitted as f64 - self.mean) * weight / self.weight;
    }
}

impl Gains {
    /// As if no guess had ever been right, a few times: then one lucky guess is no reason to pay for many.
    pub fn doubtful() -> Self {
        Self { sizes: [Gain { mean: 1.0, weight: DOUBT }; SIZES.len()] }
    }

    /// Counts a forward with `rows` rows that emitted so many tokens. Rows that are no size count as the next smaller one. Smaller
    /// sizes learn from it too, a little: they would have emitted as much, cut at their size, had they had guesses as good.
    pub fn record(&mut self, rows: usize, emitted: usize) {
        let step = Self::step(rows);
        for (smaller, gain) in self.sizes[..step].iter_mut().enumerate() {
            gain.count(emitted.min(SIZES[smaller]), OF_A_LARGER_SIZE);
        }
        self.sizes[step].count(emitted, 1.0);
    }

    /// Counts guesses of which so many were right before the first wrong one: what each size would have emitted is known then.
    pub fn record_run(&mut self, right: usize) {
        for (gain, &size) in self.sizes.iter_mut().zip(&SIZES) {
            gain.count((right + 1).min(size), 1.0);
        }
    }

    /// Expected tokens of a forward with `SIZES[step]` rows: what was measured, with `typical` as the prior. Never falls with more
    /// rows, nor below one.
    pub fn expected(&self, step: usize, typical: &Self) -> f64 {
        (0..=step).map(|step| self.own(step, typical)).fold(1.0, f64::max).min(SIZES[step] as f64)
    }

    /// What a forward with `SIZES[step]` rows may emit, as far as what was measured goes: an upper bound from the mean and the greatest
    /// variance that numbers between one and the size with that mean can have, as of Bernstein and of Bhatia and Davis.
    pub(super) fn at_best(&self, step: usize, typical: &Self) -> f64 {
        let (size, forwards) = (SIZES[step] as f64, 1.0 + self.sizes[step].weight.max(typical.sizes[step].weight));
        let mean = self.expected(step, typical);
        // as if one more token had been found: what never happened in some forwards may yet
        let variance = (mean - 1.0 + 1.0 / forwards) * (size - mean);
        (mean + DEVIATIONS * (variance / forwards).sqrt() + (size - 1.0) / forwards).min(size)
    }

    fn own(&self, step: usize, typical: &Self) -> f64 {
        let (own, prior) = (self.sizes[step], typical.known(step));
        (own.mean * own.weight + prior * PRIOR) / (own.weight + PRIOR)
    }

    /// The mean of a size, or of the nearest smaller one that was ever used.
    fn known(&self, step: usize) -> f64 {
        (0..=step).rev().map(|step| self.sizes[step]).find(|gain| gain.weight > 0.0).map_or(1.0, |gain| gain.mean)
    }

    /// Index in [`SIZES`].
    pub(super) fn step(rows: usize) -> usize {
        SIZES.partition_point(|&size| size <= rows).saturating_sub(1)
    }
}
