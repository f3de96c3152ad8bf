//! What became of the prompts of a shard so far: in memory, from time to time on disk, and for whoever watches.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::decoding::{Prompt, Taker};
use crate::failure::{Failure, Result};
use crate::progress::Reporter;
use crate::run_state::other_settings;
use crate::trajectories::{Counts, Origin, Outcome, read_part, write_part};

/// Of one shard.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    folder: &'a Path,
    origin: &'a Origin,
    /// Time between two parts.
    interval: Duration,
    reporter: &'a mut Reporter,
    /// Prompts of the shard.
    total: u64,
    outcomes: Vec<Outcome>,
    counts: Counts,
    /// So many of the outcomes are on disk.
    saved: usize,
    saved_at: Instant,
    next_part: u32,
    pace: Pace,
    begun: Instant,
}

/// What a process generated, and in what time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// Those of dropped generations too.
    pub(super) tokens: u64,
    /// Of collecting.
    pub(super) seconds: f64,
}

impl Pace {
    /// None where nothing was generated.
    pub(super) fn tokens_per_second(self) -> Option<f64> {
        (self.tokens > 0 && self.seconds > 0.0).then(|| self.tokens as f64 / self.seconds)
    }
}

impl<'a> Ledger<'a> {
    /// Begins with what another process has left of the shard. Gives the prompts that are left too.
    pub(super) fn open<'p>(
        folder: &'a Path,
        origin: &'a Origin,
        interval: Duration,
        prompts: &[&'p Prompt],
        reporter: &'a mut Reporter,
    ) -> Result<(Self, Vec<&'p Prompt>)> {
        let now = Instant::now();
        let mut ledger = Self {
            folder,
            origin,
            interval,
            reporter,
            total: prompts.len() as u64,
            outcomes: Vec::new(),
            counts: Counts::default(),
            saved: 0,
            saved_at: now,
            next_part: 0,
            pace: Pace::default(),
            begun: now,
        };
        let mut left: HashSet<u32> = prompts.iter().map(|prompt| prompt.index).collect();
        for (number, path) in origin.parts(folder)? {
            ledger.next_part = number.saturating_add(1);
            ledger.take_part(&path, &mut left)?;
        }
        if ledger.saved > 0 {
            ledger.note(&format!("continuing after {} of {} prompts", ledger.saved, ledger.total));
        }
        ledger.reporter.restart();
        ledger.show();
        let left = prompts.iter().filter(|prompt| left.contains(&prompt.index)).copied().collect();
        Ok((ledger, left))
    }

    /// Takes over what is in a part. A damaged one is worth nothing; one of another collection is nothing to write beside.
    fn take_part(&mut self, path: &Path, left: &mut HashSet<u32>) -> Result<()> {
        let (origin, outcomes) = match read_part(path) {
            Ok(part) => part,
            Err(problem) => {
                self.note(&format!("{problem}: its prompts are answered again"));
                return Ok(());
            }
        };
        if origin != *self.origin {
            return Err(foreign(path, &origin, self.origin));
        }
        let indexes: HashSet<u32> = outcomes.iter().map(Outcome::index).collect();
        if indexes.len() < outcomes.len() || !indexes.is_subset(left) {
            let path = path.display();
            self.note(&format!("{path} is damaged: its prompts are not those that are left: they are answered again"));
            return Ok(());
        }
        left.retain(|index| !indexes.contains(index));
        for outcome in &outcomes {
            self.counts.note(outcome);
        }
        self.outcomes.extend(outcomes);
        self.saved = self.outcomes.len();
        Ok(())
    }

    /// Writes what is not on disk yet.
    pub(super) fn save(&mut self) -> Result<()> {
        if self.saved < self.outcomes.len() {
            let path = self.origin.part_path(self.folder, self.next_part);
            write_part(&path, &self.outcomes[self.saved..], self.origin)?;
            self.next_part += 1;
            self.saved = self.outcomes.len();
        }
        self.saved_at = Instant::now();
        Ok(())
    }

    /// All of it, in the order of the lines.
    pub(super) fn into_outcomes(mut self) -> (Vec<Outcome>, Counts, Pace) {
        self.outcomes.sort_unstable_by_key(Outcome::index);
        (self.outcomes, self.counts, self.pace)
    }

    /// A line for whoever watches.
    pub(super) fn note(&self, text: &str) {
        self.reporter.note(text);
    }

    fn show(&mut self) {
        let figures = figures(&self.counts, self.pace);
        self.reporter.update(self.outcomes.len() as u64, self.total, &figures);
    }
}

impl Taker for Ledger<'_> {
    /// Writes a part now and then.
    fn add(&mut self, outcome: Outcome, generated: usize) -> Result<()> {
        self.counts.note(&outcome);
        self.outcomes.push(outcome);
        self.pace = Pace { tokens: self.pace.tokens + generated as u64, seconds: self.begun.elapsed().as_secs_f64() };
        self.show();
        if self.saved_at.elapsed() < self.interval { Ok(()) } else { self.save() }
    }
}

/// The sentence for a file of another collection.
pub(super) fn foreign(path: &Path, found: &Origin, asked: &Origin) -> Failure {
    let all = |origin: &Origin| {
        let mut all = origin.settings.clone();
        all["model"] = json!(origin.model);
        all
    };
    other_settings(path, &all(found), &all(asked))
}

/// What the status page shows.
fn figures(counts: &Counts, pace: Pace) -> Vec<(&'static str, String)> {
    let mut figures = vec![
        ("examples", counts.examples.to_string()),
        ("dropped", counts.dropped().to_string()),
        ("tokensPerForward", format!("{:.2}", counts.tokens_per_forward())),
    ];
    figures.extend(pace.tokens_per_second().map(|rate| ("tokensPerSecond", format!("{rate:.1}"))));
    let reasons = [
        ("droppedEmpty", counts.dropped_empty),
        ("droppedTruncated", counts.dropped_truncated),
        ("droppedDegenerate", counts.dropped_degenerate),
        ("droppedTooLong", counts.dropped_too_long),
    ];
    figures.extend(reasons.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.to_string())));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_shown_where_there_are_any() {
        let counts = Counts { examples: 3, tokens: 12, forwards: 10, dropped_truncated: 2, ..Counts::default() };
        let names = |pace| figures(&counts, pace).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(Pace::default()), ["examples", "dropped", "tokensPerForward", "droppedTruncated"]);
        let pace = Pace { tokens: 30, seconds: 2.0 };
        assert!(figures(&counts, pace).contains(&("tokensPerSecond", "15.0".to_owned())));
    }
}
