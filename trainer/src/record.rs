//! What a run knows of itself beside its weights and moments. It belongs to the state of the run.

use crate::best::Best;
use crate::divergence::Watch;
use crate::history::History;
use crate::trajectories::NamedColumns;

/// Everything of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// Losses and measurements by step.
    pub history: History,
    /// Whether it still learns.
    pub watch: Watch,
    /// The best check, where checks decide over the result and there was one.
    pub best: Option<Best>,
    /// What was refreshed and is learnt from until the next time; nothing where nothing was, or where it is time to.
    pub refreshed: NamedColumns,
}

impl Record {
    /// The present figures as texts.
    pub(crate) fn shown(&self, step: u64) -> Vec<(&str, String)> {
        let left_out = self.watch.count();
        let mut shown = self.history.shown(step);
        shown.extend(self.best.as_ref().map(|best| ("bestStep", best.mark.step.to_string())));
        shown.extend((left_out > 0).then(|| ("updatesLeftOut", left_out.to_string())));
        shown
    }
}
