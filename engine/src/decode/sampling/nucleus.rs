//! Top-k, top-p and min-p. Each keeps the first tokens in the order of likelihood, so together they keep a prefix of that order, which
//! its last token describes.

use std::cmp::Ordering;

use super::Sampling;

/// A token by what it is ordered by: the more likely first, the lower id among equals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Its share of the probability of the most likely token.
    pub(super) weight: f32,
    pub(super) token: u32,
}

impl Candidate {
    /// Less is more likely.
    pub(super) fn order(self, other: Self) -> Ordering {
        other.weight.total_cmp(&self.weight).then(self.token.cmp(&other.token))
    }
}

/// The last token that is kept; none where all are. `weights` are those of all tokens, `total` is their sum. `candidates` is memory.
pub(super) fn last_kept(
    sampling: &Sampling,
    weights: &[f32],
    total: f64,
    candidates: &mut Vec<Candidate>,
) -> Option<Candidate> {
    let top_k = sampling.top_k.map(usize::from).filter(|&k| k < weights.len());
    candidates.clear();
    let total = match top_k {
        Some(k) => {
            most_likely(weights, k, candidates);
            candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
        }
        None if sampling.top_p < 1.0 => {
            // what is left out has less than the share that top-p may leave out
            let floor = (1.0 - f64::from(sampling.top_p)) * total / weights.len() as f64;
            candidates.extend(all(weights).filter(|candidate| f64::from(candidate.weight) >= floor));
            total
        }
        None => {
            let floor = Candidate { weight: sampling.min_p, token: u32::MAX };
            return (sampling.min_p > 0.0).then_some(floor);
        }
    };
    candidates.sort_unstable_by(|a, b| a.order(*b));
    let share = f64::from(sampling.top_p) * total;
    let mut sum = 0.0;
    let crossing = candidates.iter().position(|candidate| {
        sum += f64::from(candidate.weight);
        sum >= share
    });
    candidates.truncate(crossing.map_or(candidates.len(), |index| index + 1));
    let is_likely = |candidate: &&Candidate| candidate.weight >= sampling.min_p;
    candidates.iter().take_while(is_likely).last().copied()
}

fn all(weights: &[f32]) -> impl Iterator<Item = Candidate> {
    (0..).zip(weights).map(|(token, &weight)| Candidate { weight, token })
}

/// The `k` most likely tokens, in no order.
fn most_likely(weights: &[f32], k: usize, candidates: &mut Vec<Candidate>) {
    let mut floor = 0.0;
    for candidate in all(weights) {
        if candidate.weight < floor {
            continue;
        }
        candidates.push(candidate);
        if candidates.len() == 2 * k {
            let (_, least, _) = candidates.select_nth_unstable_by(k - 1, |a, b| a.order(*b));
            floor = least.weight;
            candidates.truncate(k);
        }
    }
    if candidates.len() > k {
        candidates.select_nth_unstable_by(k - 1, |a, b| a.order(*b));
        candidates.truncate(k);
    }
}
