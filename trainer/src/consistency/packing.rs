//! From examples and noisy states to the rows of one forward, and which of them enter which loss. Pure.
//!
//! Rows of an example: prompt and fixed point but for the end marker, then every noisy state from its first wrong token on. Rows
//! before that would only repeat clean rows: the same inputs in the same context. A noisy row continues the clean rows before it.

use std::sync::Arc;

use cllm_engine::differentiable::RowLayout;

use super::noise::NoisyState;
use crate::failure::Result;
use crate::trajectories::TrajectoryExample;

/// An example as it enters a batch.
#[derive(Clone, Debug)]
pub(super) struct PackedExample<'a> {
    example: &'a TrajectoryExample,
    blocks: Vec<NoisyBlock>,
}

/// The rows of a noisy state that learn: inputs, the first of which is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NoisyBlock {
    /// Clean rows that it continues, counted from the start of the prompt.
    prefix_len: usize,
    inputs: Vec<u32>,
}

impl<'a> PackedExample<'a> {
    /// Leaves out states that no row can learn from.
    pub(super) fn new(example: &'a TrajectoryExample, states: &[NoisyState]) -> Self {
        Self { example, blocks: states.iter().filter_map(|state| noisy_block(example, state)).collect() }
    }

    /// Rows of the forward.
    pub(super) fn rows(&self) -> usize {
        self.example.tokens.len() - 1 + self.divergence_rows()
    }

    /// Rows that the consistency loss counts.
    pub(super) fn divergence_rows(&self) -> usize {
        self.blocks.iter().map(|block| block.inputs.len()).sum()
    }

    /// Rows that the cross-entropy counts.
    pub(super) fn supervised_rows(&self) -> usize {
        self.example.tokens.len() - self.example.prompt_len
    }
}

/// The token at index i of a state is the input of the row that predicts index i + 1; its last token is the input of none.
fn noisy_block(example: &TrajectoryExample, state: &NoisyState) -> Option<NoisyBlock> {
    let start = example.prompt_len + state.position;
    let inputs = &state.tokens[..state.tokens.len().checked_sub(1)?];
    let first_wrong = inputs.iter().zip(&example.tokens[start..]).position(|(noisy, right)| noisy != right)?;
    Some(NoisyBlock { prefix_len: start + first_wrong, inputs: inputs[first_wrong..].to_vec() })
}

/// A micro-batch: rows, and for the losses the places of their logits among the selected rows.
#[derive(Debug)]
pub(super) struct PackedBatch {
    /// Input of every row.
    pub tokens: Vec<u32>,
    /// What sees what.
    pub rows: Arc<RowLayout>,
    /// Rows whose logits are needed: all clean ones that predict the generation, then all noisy ones.
    pub selected: Vec<u32>,
    /// What the clean ones should predict.
    pub targets: Vec<u32>,
    /// For each noisy one, the clean one (its place in `selected`) that predicts the same token.
    pub teachers: Vec<u32>,
}

impl PackedBatch {
    /// Packs examples.
    pub(super) fn new(examples: &[PackedExample<'_>]) -> Result<Self> {
        let (mut tokens, mut rows) = (Vec::new(), RowLayout::new());
        let (mut selected, mut noisy_rows, mut targets, mut teachers) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for PackedExample { example, blocks } in examples {
            let clean = &example.tokens[..example.tokens.len() - 1];
            let start = rows.push_sequence(clean.len());
            tokens.extend_from_slice(clean);
            // the row before the generation predicts its first token
            let first_place = selected.len();
            let first_row = example.prompt_len - 1;
            selected.extend((first_row..clean.len()).map(|row| (start + row) as u32));
            targets.extend_from_slice(&example.tokens[example.prompt_len..]);
            for block in blocks {
                let first = rows.push_block(start, block.prefix_len, block.inputs.len())?;
                tokens.extend_from_slice(&block.inputs);
                noisy_rows.extend((first..first + block.inputs.len()).map(|row| row as u32));
                let teacher = first_place + block.prefix_len - first_row;
                teachers.extend((teacher..teacher + block.inputs.len()).map(|place| place as u32));
            }
        }
        selected.append(&mut noisy_rows);
        Ok(Self { tokens, rows: Arc::new(rows), selected, targets, teachers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prompt 50 51, generation 1 2 3 4 5 and the end marker 0.
    fn example() -> TrajectoryExample {
        TrajectoryExample { index: 0, tokens: vec![50, 51, 1, 2, 3, 4, 5, 0], prompt_len: 2, blocks: Vec::new() }
    }

    #[test]
    fn noisy_rows_begin_at_the_first_wrong_input() {
        for (position, tokens, expected) in [
            (0, vec![9, 9, 9], Some((2, vec![9, 9]))),
            (0, vec![1, 9, 3], Some((3, vec![9]))),
            (0, vec![1, 2, 9], None),
            (3, vec![4, 9, 0], Some((6, vec![9]))),
            (3, vec![9, 5, 0], Some((5, vec![9, 5]))),
            (5, vec![9], None),
        ] {
            let block = noisy_block(&example(), &NoisyState { position, tokens: tokens.clone() });
            assert_eq!(block.map(|block| (block.prefix_len, block.inputs)), expected, "{tokens:?} at {position}");
        }
    }

    #[test]
    fn every_noisy_row_learns_from_the_clean_row_of_its_position() {
        let first = example();
        let second = TrajectoryExample { index: 1, tokens: vec![60, 7, 8, 0], prompt_len: 1, blocks: Vec::new() };
        let states =
            [NoisyState { position: 0, tokens: vec![1, 9, 9] }, NoisyState { position: 3, tokens: vec![9, 9, 0] }];
        let packed = [
            PackedExample::new(&first, &states),
            PackedExample::new(&second, &[NoisyState { position: 0, tokens: vec![9, 9, 9] }]),
        ];
        let batch = PackedBatch::new(&packed).unwrap();
        assert_eq!(batch.tokens, [50, 51, 1, 2, 3, 4, 5, 9, 9, 9, 60, 7, 8, 9, 9]);
        assert_eq!(batch.rows.positions(), [0, 1, 2, 3, 4, 5, 6, 3, 5, 6, 0, 1, 2, 1, 2]);
        assert_eq!(batch.selected, [1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9, 13, 14]);
        assert_eq!(batch.targets, [1, 2, 3, 4, 5, 0, 7, 8, 0]);
        assert_eq!(batch.teachers, [2, 4, 5, 7, 8]);
        let clean = |place: u32| batch.selected[place as usize] as usize;
        for (teacher, noisy) in batch.teachers.iter().zip(&batch.selected[9..]) {
            let positions = batch.rows.positions();
            assert_eq!(positions[clean(*teacher)], positions[*noisy as usize]);
            assert!(!batch.rows.sees(clean(*teacher), *noisy as usize), "clean rows see nothing noisy");
        }
        assert_eq!(packed.iter().map(PackedExample::rows).sum::<usize>(), batch.tokens.len());
        assert_eq!(packed.iter().map(PackedExample::divergence_rows).sum::<usize>(), batch.teachers.len());
        assert_eq!(packed.iter().map(PackedExample::supervised_rows).sum::<usize>(), batch.targets.len());
    }
}
