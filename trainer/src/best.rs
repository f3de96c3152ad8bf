//! Which weights become the result: those of the best check of the run, or the last ones. What makes a check good is the objective's.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Result;
use crate::optimizer::Values;
use crate::run_output::file_digest;

/// Which weights become the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[value(rename_all = "PascalCase")]
pub enum Keep {
    /// Those of the best check on the validation examples; without such examples the last ones.
    Best,
    /// Those after the last step.
    Last,
}

impl Keep {
    /// Adds the validation examples to what decides over a result, where they do, and says whether they do. Nothing where the last weights
    /// are the result: runs that began before there was a choice go on.
    pub(crate) fn note(self, validation: Option<&Path>, settings: &mut Value) -> Result<bool> {
        let Some(validation) = validation.filter(|_| self == Self::Best) else { return Ok(false) };
        settings["keep"] = json!(self);
        settings["validation"] = json!(file_digest(validation)?);
        Ok(true)
    }
}

/// How good a check is. One that keeps the quality is better than any that does not; among their like the higher value is better.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Merit {
    keeps_quality: bool,
    value: f64,
}

impl Merit {
    /// The quality is kept.
    pub(crate) fn of_kept_quality(value: f64) -> Self {
        Self { keeps_quality: true, value }
    }

    /// It is not.
    pub(crate) fn of_lost_quality(value: f64) -> Self {
        Self { keeps_quality: false, value }
    }
}

/// What was measured after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Names and values to report; they stay until the next check.
    pub figures: Vec<(&'static str, f64)>,
    /// How good the weights are.
    pub merit: Merit,
}

/// A check that was the best when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Its step.
    pub step: u64,
    /// How good it was.
    pub merit: Merit,
}

impl Mark {
    /// Of checks that are equally good the first stays; where something is not a number there is nothing good.
    fn beats(self, best: Option<Self>) -> bool {
        self.merit.value.is_finite() && best.is_none_or(|best| self.merit > best.merit)
    }
}

/// The best check so far with its weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Best {
    /// Which one it is.
    pub mark: Mark,
    /// The weights that were measured.
    pub weights: Values,
}

impl Best {
    /// Puts a check in the place of the best one where it is better.
    pub(crate) fn challenge(best: &mut Option<Self>, mark: Mark, weights: &Values) {
        if !mark.beats(best.as_ref().map(|best| best.mark)) {
            return;
        }
        match best {
            Some(best) => {
                best.mark = mark;
                best.weights.clone_from(weights);
            }
            None => *best = Some(Self { mark, weights: weights.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_checks_stays_with_its_weights() {
        let (kept, lost) = (Merit::of_kept_quality, Merit::of_lost_quality);
        for (merits, expected, why) in [
            (vec![], None, "nothing was measured"),
            (vec![kept(1.0), kept(3.0), kept(2.0)], Some(2), "the highest"),
            (vec![kept(2.0), kept(2.0)], Some(1), "the first of two alike"),
            (vec![lost(9.0), kept(1.0), lost(10.0)], Some(2), "quality first"),
            (vec![lost(-1.3), lost(-1.2), lost(-1.4)], Some(2), "the least bad where none is good"),
            (vec![kept(f64::NAN), kept(f64::INFINITY), lost(0.5)], Some(3), "what is not a number is not good"),
            (vec![kept(1.0), kept(f64::NAN)], Some(1), "nor better"),
        ] {
            let mut best = None;
            for (step, merit) in (1..).zip(merits) {
                Best::challenge(&mut best, Mark { step, merit }, &vec![vec![step as f32; 2], vec![0.5]]);
            }
            assert_eq!(best.as_ref().map(|best| best.mark.step), expected, "{why}");
            if let Some(Best { mark, weights }) = best {
                assert_eq!(weights, [vec![mark.step as f32; 2], vec![0.5]], "{why}");
            }
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for value in [0.1 + 0.2, 1.0 / 3.0, 2.634_615_384_615_385, 1e-310, f64::MAX] {
            let mark = Mark { step: 7, merit: Merit::of_kept_quality(value) };
            let text = serde_json::to_string(&mark).unwrap();
            assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark, "{text}");
        }
    }
}
