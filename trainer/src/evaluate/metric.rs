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
    /// The last number, as the answers of GSM8K end with `#### 72`; commas between thousands and zeros at the end do not count.
    NumericAnswer,
    /// Not by references, for data that has none: how likely the answers of the target are to the trained model.
    Perplexity,
}

impl Metric {
    /// As reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExactMatch => "ExactMatch",
            Self::SqlExecution => "SqlExecution",
            Self::NumericAnswer => "NumericAnswer",
            Self::Perplexity => "Perplexity",
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
    /// [`Metric::NumericAnswer`].
    Number,
}

impl Judge {
    /// Opens the database where the metric needs one. None where the metric needs no references.
    pub(super) fn new(metric: Metric, database: Option<&Path>) -> Result<Option<Self>> {
        match (metric, database) {
            (Metric::ExactMatch, _) => Ok(Some(Self::Text)),
            (Metric::NumericAnswer, _) => Ok(Some(Self::Number)),
            (Metric::Perplexity, _) => Ok(None),
            (Metric::SqlExecution, Some(path)) => Ok(Some(Self::Sql(Database::open(path)?))),
            (Metric::SqlExecution, None) => {
                Err(Failure::BadInput("the metric SqlExecution needs --database with a sqlite file".to_owned()))
            }
        }
    }

    /// A reference ready to be compared with; for SQL it is executed once here.
    pub(super) fn reference<'a>(&self, text: &'a str) -> Reference<'a> {
        let outcome = match self {
            Self::Text | Self::Number => None,
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
            (Self::Number, _) => last_number(reference.text).is_some_and(|right| last_number(answer) == Some(right)),
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

/// The last number of a text in its shortest form: `1,200.50` is `1200.5`.
fn last_number(text: &str) -> Option<String> {
    let is_part = |character: char| character.is_ascii_digit() || matches!(character, ',' | '.');
    let end = text.rfind(|character: char| character.is_ascii_digit())? + 1;
    let before = text[..end].trim_end_matches(is_part);
    let negative = before.ends_with('-');
    let digits = text[before.len()..end].replace(',', "");
    let digits = match digits.split_once('.') {
        Some(_) => digits.trim_end_matches('0').trim_end_matches('.'),
        None => &digits,
    };
    let digits = match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        fraction if fraction.starts_with('.') => format!("0{fraction}"),
        shortest => shortest.to_owned(),
    };
    Some(if negative && digits != "0" { format!("-{digits}") } else { digits })
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
    fn the_last_number_is_compared_as_a_number() {
        for (answer, reference, expected) in [
            ("So she sold 48+24 = 72 clips.\n#### 72", "#### 72", true),
            ("72", "Natalia sold 24 clips.\n#### 72", true),
            ("#### 1,200.50", "#### 1200.5", true),
            ("#### 10.00", "#### 10", true),
            ("the answer is $5.", "#### 5", true),
            ("#### -3", "#### -3", true),
            ("#### 3", "#### -3", false),
            ("#### 0.5", "#### .5", true),
            ("#### 0", "#### 00", true),
            ("#### 73", "#### 72", false),
            ("#### 100", "#### 10", false),
            ("no idea", "#### 72", false),
            ("no idea", "none either", false),
        ] {
            assert_eq!(Judge::Number.is_correct(answer, &Judge::Number.reference(reference)), expected, "{answer}");
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
