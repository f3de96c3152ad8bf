//! What a data set looks like in numbers. Prints nothing.

use std::collections::HashSet;
use std::fmt;

use crate::pairs::Pair;

/// The numbers of one split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Pairs.
    pub pairs: usize,
    /// Intents among them.
    pub intents: usize,
    /// Distinct queries.
    pub queries: usize,
    /// Mean and greatest length of a question, in characters.
    pub question: (f64, usize),
    /// Mean and greatest length of a query, in characters.
    pub query: (f64, usize),
}

/// Counts and measures `pairs`.
pub fn statistics(pairs: &[Pair]) -> Statistics {
    Statistics {
        pairs: pairs.len(),
        intents: pairs.iter().map(|pair| pair.intent).collect::<HashSet<_>>().len(),
        queries: pairs.iter().map(|pair| pair.sql.as_str()).collect::<HashSet<_>>().len(),
        question: lengths(pairs.iter().map(|pair| pair.question.len())),
        query: lengths(pairs.iter().map(|pair| pair.sql.len())),
    }
}

fn lengths(lengths: impl Iterator<Item = usize> + Clone) -> (f64, usize) {
    let count = lengths.clone().count().max(1);
    (lengths.clone().sum::<usize>() as f64 / count as f64, lengths.max().unwrap_or(0))
}

impl fmt::Display for Statistics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} pairs, {} intents, {} distinct queries; characters (mean, max): question {:.0}, {}; query {:.0}, {}",
            self.pairs, self.intents, self.queries, self.question.0, self.question.1, self.query.0, self.query.1
        )
    }
}
