//! Which generations are worth learning from: a pure decision over tokens.

/// Why nothing is learnt from a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The generation ends at once.
    Empty,
    /// It does not end by itself.
    Truncated,
    /// It repeats itself: a run of one token, or a loop.
    Degenerate,
    /// The prompt does not fit the context.
    TooLong,
}

/// Longest loop that is looked for.
const LONGEST_PERIOD: usize = 32;
/// So many equal tokens in a row are a run.
const RUN: usize = 10;
/// So often in a row a loop of several tokens is one.
const REPETITIONS: usize = 3;
/// Shorter repetitions of a few tokens are ordinary text.
const SHORTEST_LOOP: usize = 12;

/// Judges a generation, its end marker included: none where it is worth learning from.
pub fn judge(generation: &[u32], eos: &[u32]) -> Option<DropReason> {
    match generation {
        [] | [_] if generation.iter().all(|token| eos.contains(token)) => Some(DropReason::Empty),
        [.., last] if !eos.contains(last) => Some(DropReason::Truncated),
        tokens if (1..=LONGEST_PERIOD).any(|period| repeats(tokens, period)) => Some(DropReason::Degenerate),
        _ => None,
    }
}

/// Whether tokens equal those one period before for long enough.
fn repeats(tokens: &[u32], period: usize) -> bool {
    let length = if period == 1 { RUN } else { (REPETITIONS * period).max(SHORTEST_LOOP + period) };
    let mut equal = 0;
    tokens.iter().zip(tokens.iter().skip(period)).any(|(before, token)| {
        equal = if before == token { equal + 1 } else { 0 };
        equal + period >= length
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_period(period: u32, repetitions: usize) -> Vec<u32> {
        let period: Vec<u32> = (10..10 + period).collect();
        [vec![1, 2], period.repeat(repetitions), vec![3, 0]].concat()
    }

    #[test]
    fn generations_are_judged() {
        use DropReason::{Degenerate, Empty, Truncated};
        for (generation, expected) in [
            (vec![], Some(Empty)),
            (vec![0], Some(Empty)),
            (vec![5], Some(Truncated)),
            (vec![5, 0], None),
            (vec![5, 6, 7], Some(Truncated)),
            (of_period(1, 9), None),
            (of_period(1, 10), Some(Degenerate)),
            (of_period(2, 6), None),
            (of_period(2, 7), Some(Degenerate)),
            (of_period(20, 2), None),
            (of_period(20, 3), Some(Degenerate)),
            (of_period(32, 3), Some(Degenerate)),
            (of_period(33, 3), None),
            ((1..200).chain([0]).collect(), None),
        ] {
            assert_eq!(judge(&generation, &[0]), expected, "{generation:?}");
        }
    }
}
