//! Whether an answer is right: by its text, or by what it selects from a database.

use std::path::Path;

use super::sql::{Database, Outcome};
use crate::failure::{Failure, Result};

/// How answers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Metric {
    /// The text of the reference, but for white space at its ends and the case of quoted literals.
    ExactMatch,
    /// The rows that the reference selects from the database; in its order where it has an ORDER BY.
    SqlExecution,
}

impl Metric {
    /// As reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExactMatch => "ExactMatch",
            Self::SqlExecution => "SqlExecution",
        }
    }
}

/// A metric with what it needs.
#[derive(Debug)]
pub(super) enum Judge {
    /// [`Metric::ExactMatch`].
    Text,
    /// [`Metric::SqlExecution`].
    Sql(Database),
}

impl Judge {
    /// Opens the database where the metric needs one.
    pub(super) fn new(metric: Metric, database: Option<&Path>) -> Result<Self> {
        match (metric, database) {
            (Metric::ExactMatch, _) => Ok(Self::Text),
            (Metric::SqlExecution, Some(path)) => Ok(Self::Sql(Database::open(path)?)),
            (Metric::SqlExecution, None) => {
                Err(Failure::BadInput("the metric SqlExecution needs --database with a sqlite file".to_owned()))
            }
        }
    }

    /// A reference ready to be compared with; for SQL it is executed once here.
    pub(super) fn reference<'a>(&self, text: &'a str) -> Reference<'a> {
        let outcome = match self {
            Self::Text => None,
            Self::Sql(database) => database.select(text).ok(),
        };
        Reference { text, outcome }
    }

    /// Whether an answer is right. A reference that the database refuses is compared as text.
    pub(super) fn is_correct(&self, answer: &str, reference: &Reference<'_>) -> bool {
        if normalized(answer) == normalized(reference.text) {
            return true;
        }
        match (self, &reference.outcome) {
            (Self::Sql(database), Some(expected)) => {
                let ordered = has_order(reference.text);
                database.select(answer).is_ok_and(|found| found.equals(expected, ordered))
            }
            _ => false,
        }
    }
}

/// A right answer.
#[derive(Debug)]
pub(super) struct Reference<'a> {
    text: &'a str,
    outcome: Option<Outcome>,
}

/// The text with quoted literals in lower case, without white space at its ends.
fn normalized(text: &str) -> String {
    let mut quote = None;
    text.trim().chars().map(|character| lower_in_quotes(character, &mut quote)).collect()
}

fn lower_in_quotes(character: char, quote: &mut Option<char>) -> char {
    match (*quote, character) {
        (None, '\'' | '"') => *quote = Some(character),
        (Some(open), _) if open == character => *quote = None,
        _ => {}
    }
    if quote.is_some() { character.to_lowercase().next().unwrap_or(character) } else { character }
}

/// Whether the outermost query has an ORDER BY: one in a subquery does not order the result.
fn has_order(sql: &str) -> bool {
    let (mut depth, mut quote) = (0_u32, None);
    let mut outer = String::new();
    for character in sql.chars() {
        let was_quoted = quote.is_some();
        lower_in_quotes(character, &mut quote);
        if was_quoted || quote.is_some() {
            continue;
        }
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => outer.push(if character.is_whitespace() { ' ' } else { character.to_ascii_lowercase() }),
            _ => {}
        }
    }
    outer.split_ascii_whitespace().collect::<Vec<_>>().windows(2).any(|words| words == ["order", "by"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_ignore_case() {
        for (answer, reference, expected) in [
            ("SELECT a FROM t;", "SELECT a FROM t;", true),
            ("SELECT a FROM t; \n", "SELECT a FROM t;", true),
            ("select a FROM t;", "SELECT a FROM t;", false),
            ("SELECT a FROM t WHERE b = 'New York'", "SELECT a FROM t WHERE b = 'new york'", true),
            ("SELECT a FROM t WHERE b = \"It's\" AND C = 1", "SELECT a FROM t WHERE b = \"it's\" AND C = 1", true),
            ("SELECT a FROM t WHERE b = 'x' AND C = 1", "SELECT a FROM t WHERE b = 'x' AND c = 1", false),
        ] {
            assert_eq!(Judge::Text.is_correct(answer, &Judge::Text.reference(reference)), expected, "{answer}");
        }
    }

    #[test]
    fn order_counts_in_the_outermost_query_only() {
        for (sql, expected) in [
            ("SELECT a FROM t ORDER BY a", true),
            ("select a from t order\n by a limit 3", true),
            ("SELECT a FROM t WHERE b = 'order by'", false),
            ("SELECT a FROM (SELECT a FROM t ORDER BY a LIMIT 3)", false),
            ("SELECT a FROM t WHERE b IN (SELECT b FROM u) ORDER BY a", true),
            ("SELECT reorder FROM t", false),
        ] {
            assert_eq!(has_order(sql), expected, "{sql}");
        }
    }
}
