//! What became of prompts, one by one and in numbers.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use super::{DropReason, TrajectoryExample};

/// What became of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A generation to learn from.
    Kept {
        /// With its trajectories.
        example: TrajectoryExample,
        /// Forwards that its tokens took.
        forwards: u32,
    },
    /// None.
    Dropped {
        /// Line of the data set, from 0.
        index: u32,
        /// Why.
        reason: DropReason,
    },
}

impl Outcome {
    /// Line of the data set, from 0.
    pub fn index(&self) -> u32 {
        match self {
            Self::Kept { example, .. } => example.index,
            Self::Dropped { index, .. } => *index,
        }
    }

    /// What can be learnt from.
    pub fn example(&self) -> Option<&TrajectoryExample> {
        match self {
            Self::Kept { example, .. } => Some(example),
            Self::Dropped { .. } => None,
        }
    }
}

/// What was collected and what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Usable generations.
    pub examples: u64,
    /// Their blocks.
    pub blocks: u64,
    /// States of these blocks.
    pub states: u64,
    /// Generated tokens.
    pub tokens: u64,
    /// Forwards that these tokens took.
    pub forwards: u64,
    /// Generations that ended at once.
    pub dropped_empty: u64,
    /// Generations that did not end.
    pub dropped_truncated: u64,
    /// Generations that repeat themselves.
    pub dropped_degenerate: u64,
    /// Prompts that do not fit the context.
    pub dropped_too_long: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            examples: self.examples + other.examples,
            blocks: self.blocks + other.blocks,
            states: self.states + other.states,
            tokens: self.tokens + other.tokens,
            forwards: self.forwards + other.forwards,
            dropped_empty: self.dropped_empty + other.dropped_empty,
            dropped_truncated: self.dropped_truncated + other.dropped_truncated,
            dropped_degenerate: self.dropped_degenerate + other.dropped_degenerate,
            dropped_too_long: self.dropped_too_long + other.dropped_too_long,
        }
    }
}

impl Counts {
    /// Counts a prompt.
    pub fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Kept { example, forwards } => {
                self.examples += 1;
                self.blocks += example.blocks.len() as u64;
                self.states += example.blocks.iter().map(|block| block.states.len() as u64).sum::<u64>();
                self.tokens += (example.tokens.len() - example.prompt_len) as u64;
                self.forwards += u64::from(*forwards);
            }
            Outcome::Dropped { reason: DropReason::Empty, .. } => self.dropped_empty += 1,
            Outcome::Dropped { reason: DropReason::Truncated, .. } => self.dropped_truncated += 1,
            Outcome::Dropped { reason: DropReason::Degenerate, .. } => self.dropped_degenerate += 1,
            Outcome::Dropped { reason: DropReason::TooLong, .. } => self.dropped_too_long += 1,
        }
    }

    /// All that was left out.
    pub fn dropped(&self) -> u64 {
        self.dropped_empty + self.dropped_truncated + self.dropped_degenerate + self.dropped_too_long
    }

    /// Of the usable generations.
    pub fn tokens_per_forward(&self) -> f64 {
        if self.forwards == 0 { 1.0 } else { self.tokens as f64 / self.forwards as f64 }
    }
}
