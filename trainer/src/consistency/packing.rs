//! From examples and noisy states to the rows of one forward, and which of them enter which loss. Pure.
//!
//! Rows of an example: prompt and fixed point but for the end marker, then every noisy state from its first wrong token on. Rows
//! before that would only repeat clean rows: the same inputs in the same context. A noisy row continues the clean rows before it. A
//! state that teaches another is packed like one that learns.

use std::sync::Arc;

use cllm_engine::differentiable::RowLayout;

use super::noise::NoisyState;
use crate::failure::Result;
use crate::trajectories::TrajectoryExample;

/// An example as it enters a batch.
#[derive(Clone, Debug)]
pub(super) struct PackedExample<'a> {
    example: &'a TrajectoryExample,
    lessons: Vec<Lesson>,
}

/// A state that learns, and the one that teaches it where the fixed point does not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lesson {
    student: NoisyBlock,
    teacher: Option<NoisyBlock>,
}

impl Lesson {
    /// None where no row can learn. A teacher without a wrong input is the fixed point.
    fn new(example: &TrajectoryExample, state: &NoisyState) -> Option<Self> {
        let block = |tokens: &[u32]| noisy_block(example, state.position, tokens);
        Some(Self { student: block(&state.tokens)?, teacher: state.teacher.as_deref().and_then(block) })
    }

    fn teacher_rows(&self) -> usize {
        self.teacher.as_ref().map_or(0, |teacher| teacher.inputs.len())
    }
}

/// The rows of a noisy state that differ from clean ones: inputs, the first of which is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NoisyBlock {
    /// Clean rows that it continues, counted from the start of the prompt.
    prefix_len: usize,
    inputs: Vec<u32>,
}

impl<'a> PackedExample<'a> {
    /// Leaves out states that no row can learn from.
    pub(super) fn new(example: &'a TrajectoryExample, states: &[NoisyState]) -> Self {
        Self { example, lessons: states.iter().filter_map(|state| Lesson::new(example, state)).collect() }
    }

    /// Prompt and fixed point alone.
    pub(super) fn without_states(&self) -> Self {
        Self { example: self.example, lessons: Vec::new() }
    }

    /// Rows of the forward.
    pub(super) fn rows(&self) -> usize {
        let teachers: usize = self.lessons.iter().map(Lesson::teacher_rows).sum();
        self.example.tokens.len() - 1 + teachers + self.divergence_rows()
    }

    /// Rows that the consistency loss counts.
    pub(super) fn divergence_rows(&self) -> usize {
        self.lessons.iter().map(|lesson| lesson.student.inputs.len()).sum()
    }

    /// Rows that the cross-entropy counts.
    pub(super) fn supervised_rows(&self) -> usize {
        self.example.tokens.len() - self.example.prompt_len
    }
}

/// The token at index i of a state is the input of the row that predicts index i + 1; its last token is the input of none.
fn noisy_block(example: &TrajectoryExample, position: usize, tokens: &[u32]) -> Option<NoisyBlock> {
    let start = example.prompt_len + position;
    let inputs = &tokens[..tokens.len().checked_sub(1)?];
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
    /// Rows whose logits are needed: all clean ones that predict the generation, those of states that teach, those of states that learn.
    pub selected: Vec<u32>,
    /// What the clean ones should predict.
    pub targets: Vec<u32>,
    /// For each one that learns, the one (its place in `selected`) that teaches it: it predicts the same token.
    pub teachers: Vec<u32>,
}

impl PackedBatch {
    /// Packs examples.
    pub(super) fn new(examples: &[PackedExample<'_>]) -> Result<Self> {
        let mut layout = Layout::default();
        let (mut clean_rows, mut teaching_rows, mut learning_rows) = (Vec::new(), Vec::new(), Vec::new());
        let (mut targets, mut teachers) = (Vec::new(), Vec::new());
        let clean_total: usize = examples.iter().map(PackedExample::supervised_rows).sum();
        for PackedExample { example, lessons } in examples {
            let start = layout.push_sequence(&example.tokens[..example.tokens.len() - 1]);
            // the row before the generation predicts its first token
            let (first_row, first_place) = (example.prompt_len - 1, clean_rows.len());
            clean_rows.extend((start + first_row..layout.rows.rows()).map(|row| row as u32));
            targets.extend_from_slice(&example.tokens[example.prompt_len..]);
            for Lesson { student, teacher } in lessons {
                let teaching_place = clean_total + teaching_rows.len();
                if let Some(teacher) = teacher {
                    teaching_rows.extend(layout.push_block(start, teacher)?);
                }
                learning_rows.extend(layout.push_block(start, student)?);
                let begin_of_teacher = teacher.as_ref().map_or(usize::MAX, |teacher| teacher.prefix_len);
                let place = |row| {
                    if row < begin_of_teacher {
                        first_place + row - first_row
                    } else {
                        teaching_place + row - begin_of_teacher
                    }
                };
                let learning = student.prefix_len..student.prefix_len + student.inputs.len();
                teachers.extend(learning.map(|row| place(row) as u32));
            }
        }
        let selected = [clean_rows, teaching_rows, learning_rows].concat();
        Ok(Self { tokens: layout.tokens, rows: Arc::new(layout.rows), selected, targets, teachers })
    }

    /// How many of the selected rows teach: all but those that learn.
    pub(super) fn teaching_rows(&self) -> usize {
        self.selected.len() - self.teachers.len()
    }
}

/// Rows with their inputs.
#[derive(Default)]
struct Layout {
    tokens: Vec<u32>,
    rows: RowLayout,
}

impl Layout {
    /// Gives the first row.
    fn push_sequence(&mut self, tokens: &[u32]) -> usize {
        self.tokens.extend_from_slice(tokens);
        self.rows.push_sequence(tokens.len())
    }

    /// Gives the rows of a block that continues the sequence from row `start` on.
    fn push_block(&mut self, start: usize, block: &NoisyBlock) -> Result<std::ops::Range<u32>> {
        let first = self.rows.push_block(start, block.prefix_len, block.inputs.len())?;
        self.tokens.extend_from_slice(&block.inputs);
        Ok(first as u32..(first + block.inputs.len()) as u32)
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
            let block = noisy_block(&example(), position, &tokens);
            assert_eq!(block.map(|block| (block.prefix_len, block.inputs)), expected, "{tokens:?} at {position}");
        }
    }

    #[test]
    fn every_noisy_row_learns_from_the_clean_row_of_its_position() {
        let first = example();
        let second = TrajectoryExample { index: 1, tokens: vec![60, 7, 8, 0], prompt_len: 1, blocks: Vec::new() };
        let state = |position, tokens: &[u32]| NoisyState { position, tokens: tokens.to_vec(), teacher: None };
        let packed = [
            PackedExample::new(&first, &[state(0, &[1, 9, 9]), state(3, &[9, 9, 0])]),
            PackedExample::new(&second, &[state(0, &[9, 9, 9])]),
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

    #[test]
    fn a_state_that_teaches_has_rows_from_its_first_wrong_input_on() {
        let example = example();
        let lesson = |tokens: &[u32], teacher: &[u32]| NoisyState {
            position: 0,
            tokens: tokens.to_vec(),
            teacher: Some(teacher.to_vec()),
        };
        // the second one's teacher has only right inputs: it is the fixed point
        let states = [lesson(&[9, 9, 9, 9], &[1, 9, 9, 9]), lesson(&[1, 2, 9, 9], &[1, 2, 3, 9])];
        let packed = [PackedExample::new(&example, &states)];
        let batch = PackedBatch::new(&packed).unwrap();
        assert_eq!(batch.tokens, [50, 51, 1, 2, 3, 4, 5, 9, 9, 9, 9, 9, 9]);
        assert_eq!(batch.rows.positions(), [0, 1, 2, 3, 4, 5, 6, 3, 4, 2, 3, 4, 4]);
        assert_eq!(batch.selected, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(batch.teachers, [1, 6, 7, 3]);
        assert_eq!((batch.teaching_rows(), packed[0].rows(), packed[0].divergence_rows()), (8, 13, 4));
        for (&teacher, &student) in batch.teachers.iter().zip(&batch.selected[8..]) {
            let position = |row: u32| batch.rows.positions()[row as usize];
            assert_eq!(position(batch.selected[teacher as usize]), position(student));
        }
    }
}
