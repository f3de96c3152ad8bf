//! How many rows a forward gives to each text of a batch: as many as pay.
//!
//! Pure: what a forward costs and what rows have brought so far go in, numbers of rows come out. A forward of the batch costs t(rows) and
//! brings the sum of the tokens that its texts emit; [`allot`] maximises the one over the other. What a text emits with so many rows is
//! measured ([`Gains`]), apart for guesses that are founded differently ([`Basis`]): a text that begins to repeat itself gets rows while
//! it does. Sizes that are not in use for predictions are tried now and then ([`Probe`]), less often the longer that was of no use;
//! guesses that were looked up are judged by the tokens that follow, so that nothing has to be tried.

mod cost;
mod gains;
mod pace;
mod probe;
#[cfg(test)]
mod tests;

pub use cost::CostCurve;
pub use gains::Gains;
pub use pace::{Pace, TextPace, Turn};
pub use probe::Probe;

pub use super::guesses::{Basis, Verdict};

/// Numbers of rows between which the policy chooses, ascending: neighbours differ enough to tell them apart.
pub const SIZES: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

/// One text, as the policy weighs it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What it has emitted with each size, its guesses founded as they are now.
    pub gains: &'a Gains,
    /// What texts emit on average then, for sizes with which it has no experience of its own.
    pub typical: &'a Gains,
    /// Most rows that it can use.
    pub limit: usize,
    /// Positions in its cache.
    pub context: usize,
}

/// Rows for each text, at least one each, such that expected tokens per second are highest.
pub fn allot(cost: &CostCurve, candidates: &[Candidate<'_>]) -> Vec<usize> {
    let batch = Batch { cost, candidates };
    let mut steps = vec![0; candidates.len()];
    let mut best = steps.clone();
    let mut best_rate = batch.rate(&steps, None);
    // Steps are taken where a row brings most. Gains fall with every row, so the best of all allotments lies on the way.
    while let Some(index) = batch.best_step(&steps) {
        steps[index] += 1;
        let rate = batch.rate(&steps, None);
        if rate > best_rate {
            (best_rate, best) = (rate, steps.clone());
        }
    }
    best.iter().map(|&step| SIZES[step]).collect()
}

/// A size beside the one in use that would pay for the text at `index` if it brought what it may bring at best.
pub fn promising(cost: &CostCurve, candidates: &[Candidate<'_>], rows: &[usize], index: usize) -> Option<usize> {
    let batch = Batch { cost, candidates };
    let mut steps: Vec<usize> = rows.iter().map(|&rows| Gains::step(rows)).collect();
    let (in_use, rate) = (steps[index], batch.rate(&steps, None));
    let neighbours = [Some(in_use + 1), in_use.checked_sub(1)].into_iter().flatten();
    let at_best = neighbours.filter(|&step| SIZES.get(step).is_some_and(|&size| size <= candidates[index].limit));
    let rates = at_best.map(|step| {
        steps[index] = step;
        (batch.rate(&steps, Some(index)), SIZES[step])
    });
    rates.filter(|(at_best, _)| *at_best > rate).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, size)| size)
}

/// Texts that share a forward.
struct Batch<'a> {
    cost: &'a CostCurve,
    candidates: &'a [Candidate<'a>],
}

impl Batch<'_> {
    /// The text for which the next size brings most tokens for each row more.
    fn best_step(&self, steps: &[usize]) -> Option<usize> {
        let gain = |index: usize| -> Option<(f64, usize)> {
            let (Candidate { gains, typical, limit, .. }, step) = (self.candidates[index], steps[index]);
            let next = SIZES.get(step + 1).filter(|&&size| size <= limit)?;
            let more = gains.expected(step + 1, typical) - gains.expected(step, typical);
            Some((more / (next - SIZES[step]) as f64, index))
        };
        let gains = (0..self.candidates.len()).filter_map(gain);
        gains.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, index)| index)
    }

    /// Expected tokens per second; those of one text at best.
    fn rate(&self, steps: &[usize], at_best: Option<usize>) -> f64 {
        let (mut tokens, mut rows, mut positions) = (0.0, 0, 0);
        for (index, (candidate, &step)) in self.candidates.iter().zip(steps).enumerate() {
            tokens += if at_best == Some(index) {
                candidate.gains.at_best(step, candidate.typical)
            } else {
                candidate.gains.expected(step, candidate.typical)
            };
            rows += SIZES[step];
            positions += SIZES[step] * candidate.context;
        }
        tokens / self.cost.seconds(rows, positions)
    }
}
