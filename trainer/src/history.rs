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
}

impl History {
    /// Takes what a step gave: its losses, and what was measured after it, if anything was.
    pub(crate) fn add(
        &mut self,
        step: u64,
        steps: u64,
        losses: Vec<(&'static str, f64)>,
        measured: Vec<(&'static str, f64)>,
    ) {
        for (name, value) in losses {
            match self.smoothed.iter_mut().find(|(found, _)| found == name) {
                Some((_, old)) => *old += NEWEST * (value - *old),
                None => self.smoothed.push((name.to_owned(), value)),
            }
        }
        // JSON has no other numbers, and the figures are a part of the state
        let finite = measured.into_iter().filter(|(_, value)| value.is_finite());
        let measured: Figures = finite.map(|(name, value)| (name.to_owned(), value)).collect();
        if !measured.is_empty() || step == steps || step.is_multiple_of(steps.div_ceil(POINTS).max(1)) {
            self.points.push(Point { step, losses: self.smoothed.clone(), measured: measured.clone() });
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
        history.add(1, 1000, vec![("loss", 1.0)], vec![]);
        history.add(2, 1000, vec![("loss", 2.0)], vec![("tokensPerForward", 1.5)]);
        history.add(3, 1000, vec![("loss", 1.05)], vec![]);
        let shown: Vec<String> = history.shown(3).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(shown, ["step 3", "loss 1.0500", "tokensPerForward 1.5000"]);
        let steps: Vec<u64> = history.points().iter().map(|point| point.step).collect();
        assert_eq!(steps, [2], "a point where something was measured");
    }

    #[test]
    fn a_measurement_that_is_no_number_does_not_make_the_figures_unreadable() {
        let mut history = History::default();
        history.add(1, 1, vec![("loss", 1.0)], vec![("validationLoss", f64::INFINITY), ("tokensPerForward", 1.5)]);
        let read: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
        assert_eq!(read, history);
        assert_eq!(read.points()[0].measured, [("tokensPerForward".to_owned(), 1.5)]);
    }

    #[test]
    fn a_run_has_some_two_hundred_points_and_its_last_step() {
        for (steps, expected) in [(3, 3), (200, 200), (1001, 167), (100_000, 200)] {
            let mut history = History::default();
            (1..=steps).for_each(|step| history.add(step, steps, vec![("loss", 1.0)], vec![]));
            assert_eq!(history.points().len(), expected, "{steps} steps");
            assert_eq!(history.points().last().map(|point| point.step), Some(steps));
        }
    }
}
