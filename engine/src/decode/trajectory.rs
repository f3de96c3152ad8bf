//! Jacobi trajectories: what the guesses of a block went through until they were right. Training data.

use std::num::NonZeroUsize;

use super::{DecodeError, DecodeOptions, Generation, Sequence};
use crate::model::{Model, Workspace};

/// The states of one block of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JacobiTrajectory {
    /// Index of the block's first token among the generated tokens.
    pub position: usize,
    /// `states[j][i]` is the token at generated index `position + i` after j forwards. The first state is the initial draft, the last is
    /// the fixed point: the tokens of autoregressive decoding. All have the length of the fixed point, which ends at EOS; neighbors
    /// differ.
    pub states: Vec<Vec<u32>>,
}

/// Decodes a prompt in fixed blocks and records their trajectories. The tokens are those of [`super::generate`].
///
/// Blocks have the strategy's block size, but the first has `first_block_len` at most, so that borders can be put anywhere. A block
/// begins as serving begins one: with what a lookup finds, if the strategy looks up, then the last known token again. It ends when all its
/// tokens are certain; it is not refilled meanwhile. All tokens come from blocks, the first one too, so the statistics have forwards
/// of blocks, of which the first computes the prompt too, and neither histogram nor sources of guesses.
/// [`crate::batch::Batch::start_in_blocks`] decodes many prompts so at a time.
pub fn generate_with_trajectories(
    model: &Model,
    workspace: &mut Workspace,
    prompt: &[u32],
    options: DecodeOptions,
    first_block_len: NonZeroUsize,
) -> Result<(Generation, Vec<JacobiTrajectory>), DecodeError> {
    let mut sequence = Sequence::start(model, prompt, options)?.in_blocks(first_block_len);
    loop {
        sequence.step(model, workspace)?;
        if let Some(finish_reason) = sequence.finish_reason() {
            let trajectories = sequence.take_trajectories();
            let (tokens, statistics) = sequence.into_parts();
            return Ok((Generation { tokens, finish_reason, statistics }, trajectories));
        }
    }
}

/// The blocks of a text whose trajectories are recorded. Pure: it is told what forwards predict, and says what to guess.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Tokens of the next block, at most.
    next_len: usize,
    /// Tokens of those after it, at most.
    block_size: usize,
    /// Index of the present block's first token among the generated ones.
    position: usize,
    /// Of the present block, the draft first.
    states: Vec<Vec<u32>>,
    ended: Vec<JacobiTrajectory>,
}

impl Blocks {
    pub(super) fn new(first_block_len: NonZeroUsize, block_size: usize) -> Self {
        let next_len = first_block_len.get().min(block_size);
        Self { next_len, block_size, position: 0, states: Vec::new(), ended: Vec::new() }
    }

    /// Tokens of the next block of a text that may have `left` more.
    pub(super) fn next_len(&self, left: usize) -> usize {
        self.next_len.min(left)
    }

    /// Begins a block.
    pub(super) fn begin(&mut self, draft: Vec<u32>) {
        self.states = vec![draft];
    }

    /// Takes what a forward predicted for the places of the block that were uncertain.
    pub(super) fn push(&mut self, predictions: &[u32]) {
        if let Some(state) = self.states.last() {
            let certain = state.len() - predictions.len();
            self.states.push([&state[..certain], predictions].concat());
        }
    }

    /// Whether all tokens of the block are certain once the text has so many.
    pub(super) fn is_certain(&self, generated: usize) -> bool {
        self.states.last().is_none_or(|state| state.len() == generated - self.position)
    }

    /// The guesses for the places after the first `generated` tokens, but for the last of the block, after which nothing is predicted.
    pub(super) fn guesses(&self, generated: usize) -> &[u32] {
        let state = self.states.last().map(Vec::as_slice).unwrap_or_default();
        state.get(generated - self.position..state.len().saturating_sub(1)).unwrap_or_default()
    }

    /// Ends the block with the text's first `generated` tokens.
    pub(super) fn end(&mut self, generated: usize) {
        let mut states = std::mem::take(&mut self.states);
        for state in &mut states {
            state.truncate(generated - self.position);
        }
        states.dedup();
        self.ended.push(JacobiTrajectory { position: self.position, states });
        (self.position, self.next_len) = (generated, self.block_size);
    }

    /// Those of all blocks that ended.
    pub(super) fn into_trajectories(self) -> Vec<JacobiTrajectory> {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_shrinks_to_what_is_uncertain_and_ends_with_the_text() {
        let mut blocks = Blocks::new(NonZeroUsize::new(3).unwrap(), 4);
        assert_eq!(blocks.next_len(9), 3);
        blocks.begin(vec![9, 9, 9]);
        assert_eq!(blocks.guesses(0), [9, 9]);
        blocks.push(&[1, 7, 7]);
        assert_eq!(blocks.guesses(1), [7]);
        blocks.push(&[2, 3]);
        // a guess that was right made the last place certain too
        assert!(!blocks.is_certain(2) && blocks.is_certain(3));
        blocks.end(3);
        assert_eq!(blocks.next_len(9), 4);
        assert_eq!(blocks.next_len(2), 2);
        blocks.begin(vec![3, 3, 3, 3]);
        blocks.push(&[4, 0, 8, 8]);
        blocks.end(5);
        let expected = [(0, vec![vec![9, 9, 9], vec![1, 7, 7], vec![1, 2, 3]]), (3, vec![vec![3, 3], vec![4, 0]])];
        let expected = expected.map(|(position, states)| JacobiTrajectory { position, states });
        assert_eq!(blocks.into_trajectories(), expected);
    }
}
