//! Ways of decoding compared on one model: the same prompts in turns, one run, the tokens checked to be the same where the model is exact.
//!
//! What a speed-up is: tokens per second after the prefill over those of autoregressive decoding. End to end the prefill (and the
//! tokenization) is on both sides. The prompts of a round have all been prefilled before the first of them goes on.

mod course;
mod prompts;
mod totals;

use thiserror::Error;

pub use prompts::prompt_tokens;
pub use totals::DecodeTotals;

use crate::decode::adaptive::Pace;
use crate::decode::{DecodeError, Generation, Strategy};
use crate::model::{Model, Workspace};
use course::Course;

/// A way of decoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// How tokens are found.
    pub strategy: Strategy,
    /// Where forwards have as many rows as pay, at most those of the strategy. It learns from every prompt.
    pub pace: Option<Pace>,
}

impl From<Strategy> for Way {
    /// All rows of the strategy, always.
    fn from(strategy: Strategy) -> Self {
        Self { strategy, pace: None }
    }
}

/// Prompts that every way decodes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// In the order in which they begin.
    pub prompts: &'a [&'a [u32]],
    /// So many are decoded at the same time, at least one; as one ends, the next takes its place.
    pub at_once: usize,
    /// Of each prompt.
    pub max_new_tokens: usize,
    /// Decides which way begins.
    pub turn: usize,
}

/// Why a comparison says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompareError {
    /// The prompt cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The one thing that must never happen.
    #[error(
        "{strategy:?} gave other tokens than {reference:?}; they must be equal, so please report this with the checkpoint and the prompt"
    )]
    Differs {
        /// What was decoded first.
        reference: Strategy,
        /// What differs from it.
        strategy: Strategy,
    },
}

/// Forwards of one way before another goes on: the first of them is slower, after the other way's.
const FORWARDS: usize = 8;

/// Decodes prompts in every way. The ways take turns of a few forwards, whoever has found fewest tokens next, so that
/// what disturbs the machine disturbs all of them alike; the first way changes from turn to turn, too. For each of `ways`, in their order,
/// the generations of the prompts: the same tokens where [`Model::is_exact`].
pub fn decode_in_turns(
    model: &Model,
    workspace: &mut Workspace,
    ways: &mut [Way],
    round: Round<'_>,
) -> Result<Vec<Vec<Generation>>, CompareError> {
    let started = ways.iter().map(|way| Course::start(way, model, round));
    let mut courses = started.collect::<Result<Vec<_>, _>>()?;
    let order: Vec<usize> = (0..courses.len()).map(|offset| (round.turn + offset) % courses.len()).collect();
    for &index in &order {
        courses[index].prefill(model, workspace)?;
    }
    let furthest_behind = |courses: &[Course]| {
        order.iter().copied().filter(|&index| !courses[index].is_done()).min_by_key(|&index| courses[index].tokens())
    };
    while let Some(index) = furthest_behind(&courses) {
        courses[index].go_on(model, workspace, FORWARDS)?;
    }
    let mut generations = Vec::with_capacity(ways.len());
    for (way, course) in ways.iter_mut().zip(courses) {
        let (pace, of_way) = course.into_parts();
        way.pace = pace;
        generations.push(of_way);
    }
    if model.is_exact() {
        check(ways, &generations)?;
    }
    Ok(generations)
}

fn check(ways: &[Way], generations: &[Vec<Generation>]) -> Result<(), CompareError> {
    let Some((first, others)) = generations.split_first() else { return Ok(()) };
    let differs = |other: &Vec<Generation>| other.iter().zip(first).any(|(a, b)| a.tokens != b.tokens);
    match others.iter().position(differs) {
        None => Ok(()),
        Some(index) => Err(CompareError::Differs { reference: ways[0].strategy, strategy: ways[index + 1].strategy }),
    }
}
