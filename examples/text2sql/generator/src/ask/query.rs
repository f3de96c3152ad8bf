//! Runs the SQL of a model: read-only, within a time and a number of rows, because nobody checked it before.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Statement};

const TIME_LIMIT: Duration = Duration::from_secs(10);
const ROW_LIMIT: usize = 100_000;

/// The shop database, opened read-only.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
}

/// The rows of a query, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Headers.
    pub(crate) columns: Vec<String>,
    /// As many cells in each row as there are columns.
    pub(crate) rows: Vec<Vec<String>>,
}

impl Answer {
    /// Whether both have the same rows; their order matters only when `ordered`.
    pub(crate) fn same_rows(&self, other: &Self, ordered: bool) -> bool {
        let [mut ours, mut theirs] = [self.rows.clone(), other.rows.clone()];
        if !ordered {
            ours.sort();
            theirs.sort();
        }
        ours == theirs
    }
}

impl Database {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_context(|| format!("failed to open the database {}", path.display()))?;
        Ok(Self { connection })
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// When sqlite refuses it, when it would write, when it takes 10 seconds or gives more than 100,000 rows.
    pub(crate) fn run(&self, sql: &str) -> Result<Answer> {
        let mut statement = self.connection.prepare(sql)?;
        ensure!(statement.readonly(), "the query would change the database: only SELECT is run");
        let interrupt = self.connection.get_interrupt_handle();
        let (done, wait) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if wait.recv_timeout(TIME_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let answer = collect(&mut statement);
        drop(done);
        // a watchdog that is gone has nothing left to do
        drop(watchdog.join());
        answer
    }
}

fn collect(statement: &mut Statement) -> Result<Answer> {
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let (mut cells, mut rows) = (statement.query([])?, Vec::new());
    while let Some(row) = cells.next()? {
        ensure!(rows.len() < ROW_LIMIT, "the query gives more than {ROW_LIMIT} rows");
        rows.push((0..columns.len()).map(|column| Ok(text(row.get_ref(column)?))).collect::<Result<_>>()?);
    }
    Ok(Answer { columns, rows })
}

fn text(value: ValueRef) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        // the last bits of a sum depend on the order of its terms
        ValueRef::Real(number) => format!("{}", (number * 1e6).round() / 1e6),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => printable(&String::from_utf8_lossy(bytes)),
    }
}

/// Without control characters, which could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.sqlite");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 0.5), (2, NULL);").unwrap();
        (folder, Database::open(&path).unwrap())
    }

    #[test]
    fn rows_are_compared_in_order_only_when_it_was_asked_for() {
        let (_folder, database) = database();
        let [up, down] =
            ["ASC", "DESC"].map(|way| database.run(&format!("SELECT a, b FROM t ORDER BY a {way};")).unwrap());
        assert_eq!(up.rows, [["1", "0.5"], ["2", "NULL"]]);
        assert!(up.same_rows(&down, false) && !up.same_rows(&down, true));
        assert!(!up.same_rows(&database.run("SELECT a FROM t;").unwrap(), false));
    }

    #[test]
    fn what_would_write_or_is_no_sql_is_refused() {
        let (_folder, database) = database();
        for sql in ["DELETE FROM t;", "DROP TABLE t;", "SELECT nothing FROM t;", "hello"] {
            assert!(database.run(sql).is_err(), "{sql} ran");
        }
        assert_eq!(database.run("SELECT COUNT(*) FROM t;").unwrap().rows, [["2"]]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
