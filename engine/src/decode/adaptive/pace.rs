//! The policy at work on one model: it is asked before each forward and told after it.

use std::time::Duration;

use super::{Basis, Candidate, CostCurve, Gains, Probe, SIZES, Verdict, allot, promising};
use crate::model::{COST_CONTEXT, Model, forward_cost_within};

/// Rows that texts have together, which are timed beside those that one of them has: a forward goes over its weights once for every few
/// rows (eight of most storages), so the first row after these costs more than the next ones.
pub(super) const SHARED: [usize; 6] = [9, 17, 24, 32, 48, 64];
/// So many texts have one trial at a time: what one of them learns serves all, and costs all of them time.
const TEXTS_PER_TRIAL: usize = 4;
/// Most time for the curve, for that of shared forwards, and for what a longer context adds.
const CURVE_TIME: Duration = Duration::from_millis(1500);
const SHARED_TIME: Duration = Duration::from_millis(500);
const CONTEXT_TIME: Duration = Duration::from_millis(300);
/// Positions of the longer context.
const LONGER_CONTEXT: usize = COST_CONTEXT + 512;

/// What the policy knows of a model, all its texts together.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    cost: CostCurve,
    /// By [`Basis`].
    typical: [Gains; Basis::COUNT],
}

/// What the policy knows of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextPace {
    /// By [`Basis`].
    gains: [Gains; Basis::COUNT],
    probe: Probe,
    /// That of the guesses that the last forward was given.
    basis: Basis,
}

/// A text that wants a forward.
#[derive(Debug)]
pub struct Turn<'a> {
    /// What is known of it.
    pub pace: &'a mut TextPace,
    /// How well its guesses are founded.
    pub basis: Basis,
    /// Most rows that it can use, at least one.
    pub limit: usize,
    /// Positions in its cache.
    pub context: usize,
}

impl Pace {
    /// For a model whose forwards cost so much.
    pub fn new(cost: CostCurve) -> Self {
        Self { cost, typical: [Gains::default(), Gains::doubtful(), Gains::doubtful()] }
    }

    /// For a model whose forwards are timed now, those of one text with up to `most` rows, and those that up to `texts` of them share:
    /// about two seconds at most, much less for a small model. None where the context of the model has no room for a forward.
    pub fn timed(model: &Model, most: usize, texts: usize) -> Option<Self> {
        let sizes = &SIZES[..=Gains::step(most)];
        let mut near = forward_cost_within(model, sizes, COST_CONTEXT, CURVE_TIME);
        let &(rows, seconds) = near.last()?;
        let shared: Vec<usize> = SHARED.into_iter().filter(|&rows| texts > 1 && rows <= most * texts).collect();
        // of a slow model the continuation of the line has to do
        if let (Some(fewest), Some(most)) = (shared.first(), shared.last())
            && seconds / rows as f64 * (fewest + most) as f64 <= SHARED_TIME.as_secs_f64()
        {
            near.extend(forward_cost_within(model, &shared, COST_CONTEXT, SHARED_TIME));
        }
        let longer = LONGER_CONTEXT.min(model.config().max_position_embeddings.saturating_sub(rows));
        let far = match longer.checked_sub(COST_CONTEXT) {
            // one forward more of a slow model is not worth its time: weights cost it more than positions
            Some(more) if more > 0 && seconds < CONTEXT_TIME.as_secs_f64() => {
                let far = forward_cost_within(model, &[rows], longer, CONTEXT_TIME);
                far.first().map_or(0.0, |(_, longer)| (longer - seconds).max(0.0) / (rows * more) as f64)
            }
            _ => 0.0,
        };
        CostCurve::new(&near, far).map(Self::new)
    }

    /// Rows for each text of the next forward, at least one each.
    pub fn rows(&self, turns: &mut [Turn<'_>]) -> Vec<usize> {
        // The texts as they are before any of them begins a trial.
        let gains: Vec<Gains> = turns.iter().map(|turn| turn.pace.gains[turn.basis as usize].clone()).collect();
        let candidates: Vec<_> = gains
            .iter()
            .zip(turns.iter())
            .map(|(gains, turn)| {
                let typical = &self.typical[turn.basis as usize];
                Candidate { gains, typical, limit: turn.limit, context: turn.context }
            })
            .collect();
        let chosen = allot(&self.cost, &candidates);
        let ask = |index: usize| promising(&self.cost, &candidates, &chosen, index);
        let most_trials = turns.len().div_ceil(TEXTS_PER_TRIAL);
        let mut trials = turns.iter().filter(|turn| turn.pace.probe.is_trying()).count();
        turns
            .iter_mut()
            .enumerate()
            .map(|(index, turn)| {
                turn.pace.basis = turn.basis;
                match turn.basis {
                    Basis::Prediction => {
                        let (was_trying, may_begin) = (turn.pace.probe.is_trying(), trials < most_trials);
                        let rows = turn.pace.probe.rows(chosen[index], turn.limit, may_begin, || ask(index));
                        trials += usize::from(!was_trying && turn.pace.probe.is_trying());
                        rows
                    }
                    Basis::ShortMatch | Basis::LongMatch => chosen[index],
                }
            })
            .collect()
    }

    /// The forward that [`Pace::rows`] was asked for gave a text so many rows, and it emitted so many tokens.
    pub fn emitted(&mut self, text: &mut TextPace, rows: usize, emitted: usize) {
        let predicted = Basis::Prediction as usize;
        if text.basis == Basis::Prediction && !text.probe.is_settling() {
            text.gains[predicted].record(rows, emitted);
            self.typical[predicted].record(rows, emitted);
        }
    }

    /// Guesses that were looked up for a text turned out so.
    pub fn judged(&mut self, text: &mut TextPace, verdict: Verdict) {
        text.gains[verdict.basis as usize].record_run(verdict.right);
        self.typical[verdict.basis as usize].record_run(verdict.right);
    }

    /// A forward of so many rows, which attended to so many positions in all, took so many seconds.
    pub fn took(&mut self, rows: usize, positions: usize, seconds: f64) {
        self.cost.correct(rows, positions, seconds);
    }
}
