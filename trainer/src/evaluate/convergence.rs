//! Fast-forwarded and stationary tokens, counted as the CLLM paper counts them (section 3.3). Pure.
//!
//! Every iteration lengthens the run of right tokens at the beginning of a block: by the fast-forwarded tokens. Those of them that were
//! right before, and stayed so, while a token before them was still wrong, are stationary. The draft is no iteration.

use cllm_crds::report::BlockCounts;
use cllm_engine::JacobiTrajectory;

use super::arms::ratio;

/// What one block took to its fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    tokens: usize,
    iterations: usize,
    stationary: usize,
}

/// None of a block without tokens.
fn count(states: &[Vec<u32>]) -> Option<Counts> {
    let fixed_point = states.last().filter(|fixed_point| !fixed_point.is_empty())?;
    // a draft that is right took a forward to find that out
    let found = if states.len() > 1 { &states[1..] } else { states };
    let mut longest = 0_usize;
    let runs: Vec<usize> = found
        .iter()
        .map(|state| {
            longest = longest.max(state.iter().zip(fixed_point).take_while(|(a, b)| a == b).count());
            longest
        })
        .collect();
    let reached = |place: usize| runs.partition_point(|&run| run <= place);
    let settled = |place: usize| {
        let last_wrong = found.iter().rposition(|state| state.get(place) != fixed_point.get(place));
        last_wrong.map_or(0, |iteration| iteration + 1)
    };
    let stationary = (0..fixed_point.len()).filter(|&place| settled(place) < reached(place)).count();
    Some(Counts { tokens: fixed_point.len(), iterations: found.len(), stationary })
}

/// Sums over blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct BlockSums {
    blocks: u64,
    iterations: u64,
    fast_forwarded: f64,
    stationary: u64,
}

impl BlockSums {
    /// Adds a block.
    pub(super) fn add(&mut self, block: &JacobiTrajectory) {
        let Some(Counts { tokens, iterations, stationary }) = count(&block.states) else { return };
        self.blocks += 1;
        self.iterations += iterations as u64;
        // every token is fast-forwarded in one of them
        self.fast_forwarded += ratio(tokens as f64, iterations as f64);
        self.stationary += stationary as u64;
    }

    /// As the report has it.
    pub(super) fn means(&self) -> BlockCounts {
        let mean = |sum: f64| ratio(sum, self.blocks as f64);
        BlockCounts {
            blocks: self.blocks,
            iterations: mean(self.iterations as f64),
            fast_forwarded: mean(self.fast_forwarded),
            stationary: mean(self.stationary as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_stationary_from_before_they_are_reached() {
        for (states, iterations, stationary, why) in [
            (&[[9, 9, 9, 9], [1, 2, 3, 4]][..], 1, 0, "a fixed point reached at once leaves nothing to wait"),
            (&[[1, 2, 3, 4]], 1, 0, "a draft that was right"),
            (&[[9, 9, 9, 9], [1, 9, 9, 9], [1, 2, 9, 9], [1, 2, 3, 9], [1, 2, 3, 4]], 4, 0, "one after the other"),
            (&[[9, 9, 9, 9], [1, 9, 3, 9], [1, 2, 3, 4]], 2, 1, "3 waits for 2"),
            (&[[9, 9, 9, 9], [1, 9, 3, 4], [1, 2, 3, 4]], 2, 2, "3 and 4 wait for 2"),
            (&[[9, 9, 9, 9], [1, 9, 3, 4], [1, 2, 9, 4], [1, 2, 3, 4]], 3, 1, "3 was given up again"),
            (&[[9, 9, 9, 9], [1, 9, 3, 9], [1, 2, 9, 9], [1, 2, 3, 4]], 3, 0, "right once is not stationary"),
            (&[[9, 2, 3, 4], [1, 9, 9, 9], [1, 2, 3, 4]], 2, 0, "what a draft guessed is not counted"),
        ] {
            let states: Vec<Vec<u32>> = states.iter().map(|state| state.to_vec()).collect();
            assert_eq!(count(&states), Some(Counts { tokens: 4, iterations, stationary }), "{why}");
        }
        assert_eq!(count(&[]), None);
        assert_eq!(count(&[Vec::new()]), None);
    }

    #[test]
    fn means_are_over_blocks_of_any_length() {
        let mut sums = BlockSums::default();
        let empty = BlockCounts { blocks: 0, iterations: 0.0, fast_forwarded: 0.0, stationary: 0.0 };
        assert_eq!(sums.means(), empty);
        let blocks: [&[&[u32]]; 2] =
            [&[&[9, 9, 9, 9], &[1, 9, 3, 9], &[1, 2, 3, 4]], &[&[9, 9, 9], &[5, 9, 9], &[5, 6, 9], &[5, 6, 7]]];
        for states in blocks {
            sums.add(&JacobiTrajectory { position: 0, states: states.iter().map(|state| state.to_vec()).collect() });
        }
        let expected = BlockCounts { blocks: 2, iterations: 2.5, fast_forwarded: 1.5, stationary: 0.5 };
        assert_eq!(sums.means(), expected);
    }

    /// The states of Jacobi iteration where a token follows from all before it, in a vocabulary so small that guesses are often right.
    fn iterate(draft: Vec<u32>, rule: u32) -> Vec<Vec<u32>> {
        let follows = |before: &[u32]| {
            let mixed = before.iter().fold(rule, |sum, token| sum.wrapping_mul(0x9E37_79B1).wrapping_add(token + 1));
            (mixed >> 16) % 2
        };
        let mut states = vec![draft];
        loop {
            let state = &states[states.len() - 1];
            let next: Vec<u32> = (0..state.len()).map(|place| follows(&state[..place])).collect();
            if next == *state {
                return states;
            }
            states.push(next);
        }
    }

    proptest! {
        /// Each iteration reaches one token at least that was wrong until then.
        #[test]
        fn what_is_not_stationary_pays_for_the_iterations(
            draft in prop::collection::vec(0_u32..2, 1..40),
            rule in any::<u32>(),
        ) {
            let states = iterate(draft, rule);
            let Counts { tokens, iterations, stationary } = count(&states).unwrap();
            prop_assert_eq!(tokens, states[0].len());
            prop_assert!(iterations >= 1 && iterations + stationary <= tokens, "{:?}", states);
        }
    }
}
