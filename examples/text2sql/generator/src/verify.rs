//! Runs queries to see that they are valid and how many find nothing. Changes no database.

use std::collections::HashSet;

use anyhow::{Context, Result};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::pairs::Pair;

/// What came out of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verification {
    /// Distinct queries that sqlite compiled.
    pub compiled: usize,
    /// Of these, how many were run.
    pub executed: usize,
    /// Of these, how many gave no row, or only NULL.
    pub empty: usize,
}

/// Compiles every distinct query of `pairs` and runs the first `limit` of them.
///
/// # Errors
/// When sqlite refuses a query.
pub fn verify(connection: &Connection, pairs: &[Pair], limit: usize) -> Result<Verification> {
    let mut seen = HashSet::with_capacity(pairs.len());
    let mut outcome = Verification::default();
    for pair in pairs.iter().filter(|pair| seen.insert(pair.sql.as_str())) {
        let context = || format!("the intent \"{}\" gave a query that sqlite refuses: {}", pair.intent, pair.sql);
        outcome.compiled += 1;
        let mut statement = connection.prepare(&pair.sql).with_context(context)?;
        if outcome.executed < limit {
            outcome.executed += 1;
            outcome.empty += usize::from(is_empty(&mut statement).with_context(context)?);
        }
    }
    Ok(outcome)
}

fn is_empty(statement: &mut rusqlite::Statement) -> Result<bool> {
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            if row.get_ref(column)? != ValueRef::Null {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
