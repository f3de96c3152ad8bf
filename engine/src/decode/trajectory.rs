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
    /// The tokens of the text, where they are given.
    answer: Option<Vec<u32>>,
}

impl Blocks {
    pub(super) fn new(first_block_len: NonZeroUsize, block_size: usize) -> Self {
        let next_len = first_block_len.get().min(block_size);
        Self { next_len, block_size, position: 0, states: Vec::new(), ended: Vec::new(), answer: None }
    }

    /// Those of a text whose tokens are given.
    pub(super) fn towards(self, answer: Vec<u32>) -> Self {
        Self { answer: Some(answer), ..self }
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

    /// Puts the given tokens, where there are any, in the place of predictions that follow right tokens alone: of those after the first
    /// `generated` tokens of the text, and after `guesses` for what comes next. What follows a wrong guess stays the model's.
    pub(super) fn hold(&self, generated: usize, guesses: &[u32], predictions: &mut [u32]) {
        let rest = self.answer.as_ref().and_then(|answer| answer.get(generated..)).unwrap_or_default();
        let right = guesses.iter().zip(rest).take_while(|(guess, token)| guess == token).count();
        for (prediction, token) in predictions.iter_mut().zip(rest).take(right + 1) {
            *prediction = *token;
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

    #[test]
    fn a_text_is_held_to_its_tokens_as_far_as_the_guesses_are_right() {
        let free = || Blocks::new(NonZeroUsize::MIN, 4);
        let held = || free().towards(vec![1, 2, 3, 4, 0]);
        for (blocks, generated, guesses, expected, why) in [
            (free(), 0, &[1, 2, 3][..], [7, 7, 7, 7], "no tokens are given"),
            (held(), 0, &[9, 2, 3], [1, 7, 7, 7], "a right guess after a wrong one proves nothing"),
            (held(), 0, &[1, 9, 3], [1, 2, 7, 7], "one is right"),
            (held(), 1, &[2, 3, 4], [2, 3, 4, 0], "all are right"),
            (held(), 3, &[4, 0, 8], [4, 0, 7, 7], "nothing is given after the end"),
        ] {
            let mut predictions = [7; 4];
            blocks.hold(generated, guesses, &mut predictions);
            assert_eq!(predictions, expected, "{why}");
        }
    }
}
