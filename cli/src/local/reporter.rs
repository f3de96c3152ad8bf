//! Tells the person or the program that started `cllm up` what happens: a live table, plain lines, or JSON lines.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use super::table::{self, Row};
use crate::args::Output;
use crate::documents::API_VERSION;

/// Plain lines are printed again after so many percent.
const LINE_EVERY_PERCENT: u32 = 10;

/// A resource at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    /// `CllmTraining` or `CllmModel`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// As on the resource.
    pub status: Value,
    /// For people.
    pub row: Row,
}

/// Where and how it is told.
#[derive(Debug)]
pub(super) enum Reporter {
    /// A table that is drawn over itself.
    Live {
        /// What stands on the screen.
        drawn: String,
    },
    /// A line when the stage changes or much has happened.
    Lines {
        /// Stage and tens of percent last told, by resource.
        told: BTreeMap<String, (String, u32)>,
    },
    /// An object per change of a status; everything else goes to standard error.
    Json {
        /// The status last told, by kind and name.
        told: BTreeMap<(&'static str, String), Value>,
    },
}

impl Reporter {
    /// Standard output decides between table and lines.
    pub(super) fn new(output: Output) -> Self {
        match output {
            Output::Json => Self::Json { told: BTreeMap::new() },
            Output::Text if std::io::stdout().is_terminal() => Self::Live { drawn: String::new() },
            Output::Text => Self::Lines { told: BTreeMap::new() },
        }
    }

    /// Tells what has changed.
    pub(super) fn update(&mut self, snapshots: &[Snapshot]) {
        match self {
            Self::Live { drawn } => {
                let rows: Vec<Row> = snapshots.iter().map(|snapshot| snapshot.row.clone()).collect();
                let table = narrow(&table::render(&rows), comfy_table::Table::new().width());
                if table != *drawn {
                    put(&format!("{}{table}\n", erase(drawn)));
                    *drawn = table;
                }
            }
            Self::Lines { told } => {
                for Snapshot { row, .. } in snapshots {
                    let state = (row.stage.clone(), row.percentage.unwrap_or_default() / LINE_EVERY_PERCENT);
                    if told.insert(row.resource.clone(), state.clone()) != Some(state) {
                        put(&format!("{}\n", table::line(row)));
                    }
                }
            }
            Self::Json { told } => {
                for Snapshot { kind, name, status, .. } in snapshots {
                    let key = (*kind, name.clone());
                    if told.get(&key) != Some(status) {
                        put(&format!("{}\n", object(kind, name, status)));
                        told.insert(key, status.clone());
                    }
                }
            }
        }
    }

    /// Tells something in words, between the rest.
    pub(super) fn note(&mut self, text: &str) {
        match self {
            Self::Live { drawn } => {
                // the table moves below the words
                put(&format!("{}{text}\n{drawn}{}", erase(drawn), if drawn.is_empty() { "" } else { "\n" }));
            }
            Self::Lines { .. } => put(&format!("{text}\n")),
            Self::Json { .. } => anstream::eprintln!("{text}"),
        }
    }
}

fn object(kind: &str, name: &str, status: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "status": status})
}

/// A line that wraps would take two rows of the screen, and the table could not be drawn over itself.
fn narrow(table: &str, width: Option<u16>) -> String {
    let width = width.map_or(usize::MAX, usize::from);
    table.lines().map(|line| line.chars().take(width).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// Moves the cursor to the beginning of what was drawn and clears the rest of the screen.
fn erase(drawn: &str) -> String {
    match drawn.lines().count() {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\r\x1b[J"),
    }
}

/// A closed pipe is no reason to stop a training.
fn put(text: &str) {
    let mut output = anstream::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_screen_and_erased_one_by_one() {
        assert_eq!(narrow("abc\nde", Some(2)), "ab\nde");
        assert_eq!(narrow("abc\nde", None), "abc\nde");
        assert_eq!(erase("ab\nde"), "\u{1b}[2A\r\u{1b}[J");
        assert_eq!(erase(""), "");
    }
}
