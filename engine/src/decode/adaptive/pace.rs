//! The policy at work on one model: it is asked before each forward and told after it.

use super::{Candidate, CostCurve, Gains, Probe, allot, promising};

/// What the policy knows of a model, all its texts together.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    cost: CostCurve,
    typical: Gains,
}

/// What the policy knows of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextPace {
    gains: Gains,
    probe: Probe,
}

/// A text that wants a forward.
#[derive(Debug)]
pub struct Turn<'a> {
    /// What is known of it.
    pub pace: &'a mut TextPace,
    /// Most rows that it can use, at least one.
    pub limit: usize,
    /// Positions in its cache.
    pub context: usize,
}

impl Pace {
    /// For a model whose forwards cost so much.
    pub fn new(cost: CostCurve) -> Self {
        Self { cost, typical: Gains::default() }
    }

    /// Rows for each text of the next forward, at least one each.
    pub fn rows(&self, turns: &mut [Turn<'_>]) -> Vec<usize> {
        // The texts as they are before any of them begins a trial.
        let gains: Vec<Gains> = turns.iter().map(|turn| turn.pace.gains.clone()).collect();
        let candidates: Vec<_> = gains
            .iter()
            .zip(turns.iter())
            .map(|(gains, turn)| Candidate { gains, limit: turn.limit, context: turn.context })
            .collect();
        let chosen = allot(&self.cost, &self.typical, &candidates);
        let ask = |index: usize| promising(&self.cost, &self.typical, &candidates, &chosen, index);
        turns
            .iter_mut()
            .enumerate()
            .map(|(index, turn)| turn.pace.probe.rows(chosen[index], turn.limit, || ask(index)))
            .collect()
    }

    /// A forward gave a text so many rows, and it emitted so many tokens.
    pub fn emitted(&mut self, text: &mut TextPace, rows: usize, emitted: usize) {
        if !text.probe.is_settling() {
            text.gains.record(rows, emitted);
            self.typical.record(rows, emitted);
        }
    }

    /// A forward of so many rows, which attended to so many positions in all, took so many seconds.
    pub fn took(&mut self, rows: usize, positions: usize, seconds: f64) {
        self.cost.correct(rows, positions, seconds);
    }
}
