//! Queries of a model against a sqlite database, which is not trusted with them: read-only, bounded in steps and rows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::failure::{Failure, Result};

/// Virtual-machine instructions between two calls of the progress handler.
const STEPS_PER_CALL: i32 = 10_000;
/// Calls after which a query is stopped: some tens of millions of instructions.
const CALLS: u32 = 5_000;
/// A query with more rows is stopped.
const MAXIMUM_ROWS: usize = 100_000;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    /// Calls of the progress handler since the query began.
    calls: Arc<AtomicU32>,
}

/// What a query selected: values in a form in which equal ones are equal texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    rows: Vec<Vec<String>>,
}

impl Outcome {
    /// Compares rows, in order or as a multiset. Names of columns do not count.
    pub(super) fn equals(&self, other: &Self, ordered: bool) -> bool {
        if ordered {
            return self == other;
        }
        let sorted = |outcome: &Self| {
            let mut rows = outcome.rows.clone();
            rows.sort_unstable();
            rows
        };
        self.rows.len() == other.rows.len() && sorted(self) == sorted(other)
    }
}

impl Database {
    /// Opens a file for reading.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bad = |error: rusqlite::Error| {
            Failure::BadInput(format!("cannot open the database {}: {error}; give a sqlite file", path.display()))
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(bad)?;
        // opening reads nothing yet: this fails where the file is no database
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())).map_err(bad)?;
        let calls = Arc::new(AtomicU32::new(0));
        let counter = calls.clone();
        let limit = move || counter.fetch_add(1, Ordering::Relaxed) >= CALLS;
        connection.progress_handler(STEPS_PER_CALL, Some(limit)).map_err(bad)?;
        Ok(Self { connection, calls })
    }

    /// Runs one query. Fails where it is no query, wrong, or takes too long.
    pub(super) fn select(&self, sql: &str) -> std::result::Result<Outcome, String> {
        self.calls.store(0, Ordering::Relaxed);
        self.rows(sql).map_err(|error| error.to_string())
    }

    fn rows(&self, sql: &str) -> std::result::Result<Outcome, Box<dyn std::error::Error>> {
        let first_word = sql.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        if !["select", "with", "values"].contains(&first_word.to_ascii_lowercase().as_str()) {
            return Err("it is no query".into());
        }
        let mut statement = self.connection.prepare(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            if rows.len() == MAXIMUM_ROWS {
                return Err("it selects too many rows".into());
            }
            rows.push((0..columns).map(|column| Ok(canonical(row.get_ref(column)?))).collect::<rusqlite::Result<_>>()?);
        }
        Ok(Outcome { rows })
    }
}

/// Numbers by value (3 is 3.0, and sums may be added in another order), texts as they are.
fn canonical(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(value) => number(value as f64),
        ValueRef::Real(value) => number(value),
        ValueRef::Text(text) => format!("'{}", String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => format!("x{bytes:?}"),
    }
}

fn number(value: f64) -> String {
    // −0 is 0
    format!("{:.9e}", value + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.sqlite");
        let setup = "CREATE TABLE t (a INTEGER, b TEXT, c REAL);
            INSERT INTO t VALUES (1, 'x', 0.1), (2, 'y', 0.2), (3, 'x', NULL), (3, 'x', NULL);";
        Connection::open(&path).unwrap().execute_batch(setup).unwrap();
        let database = Database::open(&path).unwrap();
        (folder, database)
    }

    #[test]
    fn rows_are_compared_as_a_multiset_or_in_order() {
        let (_folder, database) = database();
        let select = |sql: &str| database.select(sql).unwrap();
        for (a, b, unordered, ordered) in [
            ("SELECT a FROM t", "SELECT a FROM t ORDER BY a DESC", true, false),
            ("SELECT a FROM t ORDER BY a", "SELECT a AS z FROM t ORDER BY a", true, true),
            ("SELECT DISTINCT a FROM t", "SELECT a FROM t", false, false),
            ("SELECT a, b FROM t", "SELECT b, a FROM t", false, false),
            ("SELECT count(*) FROM t", "SELECT 4.0", true, true),
            ("SELECT 0.1 + 0.2", "SELECT 0.3", true, true),
            ("SELECT NULL", "SELECT 0", false, false),
            ("SELECT '1'", "SELECT 1", false, false),
            ("SELECT a FROM t WHERE a > 9", "SELECT b FROM t WHERE a > 9", true, true),
        ] {
            assert_eq!(select(a).equals(&select(b), false), unordered, "{a} / {b}");
            assert_eq!(select(a).equals(&select(b), true), ordered, "{a} / {b} in order");
        }
    }

    #[test]
    fn anything_but_a_bounded_query_is_refused() {
        let (_folder, database) = database();
        for sql in [
            "DELETE FROM t",
            "",
            "SELECT nothing FROM t",
            "SELECT a FROM",
            "ATTACH 'other' AS other",
            "PRAGMA user_version",
            "SELECT 1; DROP TABLE t",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
            "WITH x AS (SELECT 1) DELETE FROM t",
        ] {
            assert!(database.select(sql).is_err() || sql.starts_with("SELECT 1;"), "{sql}");
        }
        assert_eq!(database.select("SELECT count(*) FROM t").unwrap(), database.select("SELECT 4").unwrap());
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "no database, but long enough to be read as the header of one ".repeat(20)).unwrap();
        assert!(Database::open(&path).unwrap_err().to_string().contains("give a sqlite file"));
        assert!(Database::open(&folder.path().join("missing")).is_err());
    }
}
