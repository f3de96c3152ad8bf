//! Whether a run still learns: decides from what its steps gave, and remembers what it needs for that. Pure.
//!
//! A step whose loss or gradient is not a finite number changes nothing: its update is left out, and after too many of them in a row the
//! run stops. So it does when its loss has been far above its lowest for many steps in a row. Losses are compared smoothed, in nats of a
//! token: a run that knows its data well may jump to several times a tiny loss and come back, one that has forgotten how to write is whole
//! nats away.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Updates that may be left out in a row.
const LEFT_OUT_IN_A_ROW: u64 = 3;
/// A loss is far above the lowest from so many times that …
const TIMES_LOWEST: f64 = 2.0;
/// … and so many nats on.
const NATS_ABOVE: f64 = 0.5;

/// Why a run should not go on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum Divergence {
    /// No update can be made.
    #[error(
        "the loss ({loss}) or the length of its gradient ({gradient_norm}) was not a finite number in {in_a_row} steps in a row, up to step \
         {step}; lower --learning-rate, lengthen --warmup-steps, or check the data near this step, and start again with another --state. \
         The checkpoints of this one are kept"
    )]
    NotFinite {
        /// The last of the steps.
        step: u64,
        /// Of this step.
        loss: f64,
        /// Of this step.
        gradient_norm: f64,
        /// How many steps.
        in_a_row: u64,
    },
    /// What was learnt is lost.
    #[error(
        "the run diverges: its loss was {loss:.3} nats a token after step {step}, and for {in_a_row} steps in a row more than {limit:.3} (its \
         lowest, {lowest:.3}, twice and 0.5); lower --learning-rate, lengthen --warmup-steps or lower --clip, and start again with another \
         --state. The last checkpoint from before is kept"
    )]
    Rising {
        /// The last of the steps.
        step: u64,
        /// Smoothed.
        loss: f64,
        /// The lowest smoothed one of the run.
        lowest: f64,
        /// What it must not exceed for long.
        limit: f64,
        /// For how many steps it did.
        in_a_row: u64,
    },
}

/// What is remembered of the steps so far. It belongs to the state of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Watch {
    lowest: Option<f64>,
    high_in_a_row: u64,
    left_out_in_a_row: u64,
    left_out: u64,
}

impl Watch {
    /// After an update: takes the smoothed loss in nats a token. Fails after `patience` steps in a row that are far above the lowest;
    /// never where it is 0.
    pub(crate) fn updated(&mut self, step: u64, loss: f64, patience: u64) -> Result<(), Divergence> {
        self.left_out_in_a_row = 0;
        let lowest = self.lowest.map_or(loss, |lowest| lowest.min(loss));
        self.lowest = Some(lowest);
        let limit = TIMES_LOWEST * lowest + NATS_ABOVE;
        self.high_in_a_row = if loss > limit { self.high_in_a_row + 1 } else { 0 };
        let in_a_row = self.high_in_a_row;
        if patience > 0 && in_a_row >= patience {
            return Err(Divergence::Rising { step, loss, lowest, limit, in_a_row });
        }
        Ok(())
    }

    /// After a step whose update was left out. Fails where it is one too many in a row.
    pub(crate) fn left_out(&mut self, step: u64, loss: f64, gradient_norm: f64) -> Result<(), Divergence> {
        self.left_out += 1;
        self.left_out_in_a_row += 1;
        let in_a_row = self.left_out_in_a_row;
        if in_a_row > LEFT_OUT_IN_A_ROW {
            return Err(Divergence::NotFinite { step, loss, gradient_norm, in_a_row });
        }
        Ok(())
    }

    /// Updates of the run that were left out.
    pub(crate) fn count(&self) -> u64 {
        self.left_out
    }

    /// Whether the loss is where it should be. As long as it is not, no checkpoint may replace one from before.
    pub(crate) fn is_calm(&self) -> bool {
        self.high_in_a_row == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f64 = f64::NAN;

    /// Smoothed losses one after the other; what is not finite was left out. Gives the step at which the run stops.
    fn stops(losses: &[f64], patience: u64) -> Option<u64> {
        let mut watch = Watch::default();
        (1..).zip(losses).find_map(|(step, &loss)| {
            let verdict =
                if loss.is_finite() { watch.updated(step, loss, patience) } else { watch.left_out(step, loss, 1.0) };
            verdict.is_err().then_some(step)
        })
    }

    #[test]
    fn a_run_stops_where_it_does_not_learn_any_more() {
        for (losses, patience, expected, why) in [
            (&[3.0, 2.0, 1.0, 0.5][..], 2, None, "it learns"),
            (&[1.0, 2.6, 2.6, 2.6], 2, Some(3), "above 2 × 1 + 0.5 twice in a row"),
            (&[1.0, 2.5, 2.5, 2.5], 2, None, "at the limit"),
            (&[1.0, 2.6, 2.4, 2.6, 2.4], 2, None, "it comes back every time"),
            (&[0.01, 0.4, 0.4, 0.4, 0.4], 2, None, "many times a tiny loss is no loss of what was learnt"),
            (&[7.0, 3.0, 7.0, 7.0], 2, Some(4), "a language model back at the frequencies of its tokens"),
            (&[1.0, 9.0, 9.0, 9.0], 0, None, "nobody asked"),
            (&[1.0, NAN, NAN, NAN, 1.0, NAN, NAN, NAN, 1.0], 2, None, "three in a row are left out"),
            (&[1.0, NAN, NAN, NAN, NAN], 2, Some(5), "four are too many"),
            (&[NAN, NAN, f64::INFINITY, NAN], 0, Some(4), "whether or not losses are watched"),
            (&[1.0, 9.0, NAN, 9.0], 2, Some(4), "what is left out does not calm it"),
        ] {
            assert_eq!(stops(losses, patience), expected, "{losses:?}: {why}");
        }
    }

    #[test]
    fn it_is_calm_where_the_loss_is_low_and_counts_what_it_left_out() {
        let mut watch = Watch::default();
        for (loss, calm, count) in [(1.0, true, 0), (9.0, false, 0), (NAN, false, 1), (1.0, true, 1), (NAN, true, 2)] {
            let verdict = if loss.is_nan() { watch.left_out(1, loss, NAN) } else { watch.updated(1, loss, 10) };
            assert_eq!((verdict, watch.is_calm(), watch.count()), (Ok(()), calm, count), "{loss}");
        }
        let stored: Watch = serde_json::from_str(&serde_json::to_string(&watch).unwrap()).unwrap();
        assert_eq!(stored, watch);
    }

    #[test]
    fn sentences_say_what_was_seen_and_what_to_change() {
        let mut watch = Watch::default();
        watch.updated(1, 0.25, 1).unwrap();
        let rising = watch.updated(2, 4.0, 1).unwrap_err().to_string();
        for part in ["4.000", "step 2", "1 steps", "1.000", "0.250", "--learning-rate", "--warmup-steps", "--clip"] {
            assert!(rising.contains(part), "{part} is missing: {rising}");
        }
        let [_, _, _, last] = [3, 4, 5, 6].map(|step| watch.left_out(step, NAN, f64::INFINITY));
        let not_finite = last.unwrap_err().to_string();
        for part in ["(NaN)", "(inf)", "4 steps in a row", "step 6", "--learning-rate", "another --state"] {
            assert!(not_finite.contains(part), "{part} is missing: {not_finite}");
        }
    }
}
