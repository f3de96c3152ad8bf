//! The figures of a run over its steps: what is shown while it goes on, kept in its state, and written beside its result.

use serde::{Deserialize, Serialize};

/// The new value's share of a smoothed loss: an average over some twenty steps.
const NEWEST: f64 = 0.05;
/// Points of a whole run, about.
const POINTS: u64 = 200;

/// Figures by name, in the order in which they first came.
type Figures = Vec<(String, f64)>;

/// Losses smoothed over some twenty steps, measurements as they were at the last one, and both over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    smoothed: Figures,
    measured: Figures,
    points: Vec<Point>,
}

/// A moment of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Updates that were made.
    pub step: u64,
    /// Smoothed losses.
    pub losses: Figures,
    /// Measured at this very step; empty at most steps.
    pub measured: Figures,
    /// Whether the weights after this step are the result; false everywhere in a run that had no choice and gives the last ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

impl History {
    /// Takes the losses of a step.
    pub(crate) fn add_losses(&mut self, losses: Vec<(&'static str, f64)>) {
        for (name, value) in losses {
            match self.smoothed.iter_mut().find(|(found, _)| found == name) {
                Some((_, old)) => *old += NEWEST * (value - *old),
                None => self.smoothed.push((name.to_owned(), value)),
            }
        }
    }

    /// A loss by its name, smoothed.
    pub(crate) fn loss(&self, name: &str) -> Option<f64> {
        self.smoothed.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
    }

    /// Ends a step, after which this was measured, if anything was.
    pub(crate) fn end_step(&mut self, step: u64, steps: u64, measured: Vec<(&'static str, f64)>) {
        // JSON has no other numbers, and the figures are a part of the state
        let finite = measured.into_iter().filter(|(_, value)| value.is_finite());
        let measured: Figures = finite.map(|(name, value)| (name.to_owned(), value)).collect();
        if !measured.is_empty() || step == steps || step.is_multiple_of(steps.div_ceil(POINTS).max(1)) {
            self.points.push(Point { step, losses: self.smoothed.clone(), measured: measured.clone(), kept: false });
        }
        if !measured.is_empty() {
            self.measured = measured;
        }
    }

    /// The present figures as texts.
    pub(crate) fn shown(&self, step: u64) -> Vec<(&str, String)> {
        let figures = self.smoothed.iter().chain(&self.measured);
        let figures = figures.map(|(name, value)| (name.as_str(), format!("{value:.4}")));
        std::iter::once(("step", step.to_string())).chain(figures).collect()
    }

    /// Marks the step whose weights are the result. Gives what was measured there.
    pub(crate) fn keep(&mut self, step: u64) -> &[(String, f64)] {
        let found = self.points.iter_mut().find(|point| point.step == step);
        found.map_or(&[][..], |point| {
            point.kept = true;
            &point.measured
        })
    }

    /// Moments from first to last.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_smoothed_and_measurements_stay_until_the_next() {
        let mut history = History::default();
        for (step, loss, measured) in [(1, 1.0, vec![]), (2, 2.0, vec![("tokensPerForward", 1.5)]), (3, 1.05, vec![])] {
            history.add_losses(vec![("loss", loss)]);
            history.end_step(step, 1000, measured);
        }
        let shown: Vec<String> = history.shown(3).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(shown, ["step 3", "loss 1.0500", "tokensPerForward 1.5000"]);
        let steps: Vec<u64> = history.points().iter().map(|point| point.step).collect();
        assert_eq!(steps, [2], "a point where something was measured");
    }

    #[test]
    fn the_step_that_is_kept_is_marked_and_numbers_that_json_has_not_are_left_out() {
        let mut history = History::default();
        history.end_step(4, 8, vec![("tokensPerForward", 2.5), ("perplexityOverTarget", f64::INFINITY)]);
        history.end_step(8, 8, vec![("tokensPerForward", 2.0)]);
        assert_eq!(history.keep(4), [("tokensPerForward".to_owned(), 2.5)]);
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(text.matches("\"kept\":true").count(), 1, "{text}");
        assert_eq!(text.matches("kept").count(), 1, "{text}");
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
        assert!(history.keep(5).is_empty());
    }

    #[test]
    fn a_measurement_that_is_no_number_does_not_make_the_figures_unreadable() {
        let mut history = History::default();
        history.add_losses(vec![("loss", 1.0)]);
        history.end_step(1, 1, vec![("validationLoss", f64::INFINITY), ("tokensPerForward", 1.5)]);
        let read: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
        assert_eq!(read, history);
        assert_eq!(read.points()[0].measured, [("tokensPerForward".to_owned(), 1.5)]);
    }

    #[test]
    fn a_run_has_some_two_hundred_points_and_its_last_step() {
        for (steps, expected) in [(3, 3), (200, 200), (1001, 167), (100_000, 200)] {
            let mut history = History::default();
            (1..=steps).for_each(|step| history.end_step(step, steps, vec![]));
            assert_eq!(history.points().len(), expected, "{steps} steps");
            assert_eq!(history.points().last().map(|point| point.step), Some(steps));
        }
    }
}
