//! Records that cannot be read: named, counted, and more of them than allowed stop the run before it has begun.

use std::path::Path;

use super::files::Place;
use crate::failure::{Failure, Result};

/// So many of them are named.
const NAMED: usize = 5;

#[derive(Debug)]
pub(super) struct BadRecords {
    allowed: usize,
    count: usize,
    named: Vec<String>,
}

impl BadRecords {
    pub(super) fn new(allowed: usize) -> Self {
        Self { allowed, count: 0, named: Vec::new() }
    }

    /// Counts one. Fails where it is one too many.
    pub(super) fn note(&mut self, file: &Path, place: Place, problem: &str) -> Result<()> {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{}, {place}: {problem}", file.display()));
        }
        if self.count <= self.allowed {
            return Ok(());
        }
        let list = self.named.join("; ");
        Err(Failure::BadInput(match self.allowed {
            0 => format!("{list}; correct the record or remove it, or allow a few with --max-bad-records"),
            allowed => format!(
                "{} records cannot be read, more than the {allowed} that --max-bad-records allows; the first: {list}",
                self.count
            ),
        }))
    }

    /// Says in the log what was left out of `data`.
    pub(super) fn report(&self, data: &Path) {
        if self.count > 0 {
            let list = self.named.join("; ");
            tracing::warn!("{} records of {} are left out; the first: {list}", self.count, data.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_stops_and_names_the_first() {
        for (allowed, expected) in [(0, 1), (1, 2), (7, 8)] {
            let mut bad = BadRecords::new(allowed);
            let mut outcomes = (1..).map(|line| bad.note(Path::new("a.jsonl"), Place::Line(line), "it is not JSON"));
            let failed = outcomes.position(|outcome| outcome.is_err());
            assert_eq!(failed, Some(expected - 1), "{allowed} allowed");
        }
        let mut bad = BadRecords::new(1);
        bad.note(Path::new("a.jsonl"), Place::Line(3), "it is not JSON").unwrap();
        let said = bad.note(Path::new("b.parquet"), Place::Row(9), "the prompt is empty").unwrap_err().to_string();
        for part in ["2 records", "the 1 that --max-bad-records", "a.jsonl, line 3: it", "b.parquet, row 9: the prompt"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}
