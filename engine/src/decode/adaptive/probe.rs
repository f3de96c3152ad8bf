//! Trying sizes that are not in use.

/// Forwards of a trial: the first of another size still live on the guesses of the old one.
const TRIAL: u32 = 6;
/// Forwards between trials after another size came into use.
const FIRST_INTERVAL: u32 = 8;
/// Forwards between trials that may pay, at most.
const LONGEST_INTERVAL: u32 = 96;
/// Forwards until it is asked again whether one may pay, at most.
const LONGEST_INTERVAL_WITHOUT_PROMISE: u32 = 384;

/// When a text tries which size.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    interval: u32,
    /// Forwards until the next trial.
    wait: u32,
    /// The size in use when it was last asked.
    last: usize,
    /// Forwards left of a trial, and its size.
    trial: Option<(u32, usize)>,
}

impl Default for Probe {
    fn default() -> Self {
        Self { interval: FIRST_INTERVAL, wait: FIRST_INTERVAL / 2, last: 0, trial: None }
    }
}

impl Probe {
    /// The rows to use instead of the `chosen` ones: others during a trial, none of which begins where `may_begin` is false. `promising`
    /// says whether there is a size worth trying now. Call it once for each forward.
    pub fn rows(
        &mut self,
        chosen: usize,
        limit: usize,
        may_begin: bool,
        promising: impl FnOnce() -> Option<usize>,
    ) -> usize {
        if let Some((left, rows)) = self.trial {
            self.trial = (left > 1).then_some((left - 1, rows));
            return rows.min(limit);
        }
        if self.wait > 0 {
            self.wait -= 1;
            return chosen;
        }
        if !may_begin {
            return chosen;
        }
        let promising = promising();
        // The longer the same size is in use, the less often it is questioned; rarely, where no other promises anything.
        let longest = if promising.is_some() { LONGEST_INTERVAL } else { LONGEST_INTERVAL_WITHOUT_PROMISE };
        let interval = if chosen == self.last { self.interval * 2 } else { FIRST_INTERVAL };
        self.interval = interval.min(longest);
        (self.wait, self.last) = (self.interval, chosen);
        let Some(rows) = promising else { return chosen };
        self.trial = Some((TRIAL - 1, rows));
        rows
    }

    /// Whether the next forward is one of a trial.
    pub fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    /// Whether a forward of a trial should be counted: not while it lives on the guesses of another size.
    pub fn is_settling(&self) -> bool {
        self.trial.is_some_and(|(left, _)| left >= TRIAL - 2)
    }
}
