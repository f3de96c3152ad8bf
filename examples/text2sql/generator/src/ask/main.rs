//! `text2sql-ask`: asks a served model held-out questions and shows what the database says to its queries.
//! It never writes to the database, and a wrong answer is shown, not hidden.
#![expect(clippy::print_stdout, reason = "the questions and answers are this program's output")]

mod choice;
mod client;
mod query;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{Table, presets};
use text2sql_generator::files::{Line, read_lines};

use crate::client::Client;
use crate::query::{Answer, Database};

/// Rows of an answer that are shown.
const SHOWN_ROWS: usize = 5;

/// Asks a served model held-out questions about the shop database and runs the SQL that it answers.
#[derive(Debug, Parser)]
#[command(name = "text2sql-ask", version)]
struct Arguments {
    /// The server's API, with /v1
    #[arg(long, default_value = "http://127.0.0.1:8000/v1")]
    url: String,
    /// The shop database, opened read-only
    #[arg(long)]
    database: PathBuf,
    /// Questions with their reference queries, .jsonl.gz
    #[arg(long)]
    dataset: PathBuf,
    /// How many questions, each of another kind
    #[arg(long, default_value_t = 3)]
    questions: usize,
    /// Seconds to wait for a server that is still starting
    #[arg(long, default_value_t = 0)]
    wait_seconds: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let database = Database::open(&arguments.database)?;
    let lines = read_lines(&arguments.dataset)?;
    let client = Client::connect(&arguments.url, Duration::from_secs(arguments.wait_seconds))?;
    for line in choice::choose(&lines, arguments.questions, |line| has_rows(&database, line)) {
        ask(&client, &database, line)?;
    }
    Ok(())
}

fn has_rows(database: &Database, line: &Line) -> bool {
    database.run(&line.completion).is_ok_and(|answer| !answer.rows.is_empty())
}

fn ask(client: &Client, database: &Database, line: &Line) -> Result<()> {
    let expected = database.run(&line.completion).context("the reference query of the dataset fails")?;
    let completion = client.complete(&line.prompt)?;
    let sql = query::printable(completion.text.trim());
    println!("question: {}", line.prompt.trim());
    println!("SQL:      {sql}");
    let verdict = match database.run(&sql) {
        Ok(answer) => {
            println!("{}", render(&answer));
            let ordered = line.completion.contains("ORDER BY");
            if answer.same_rows(&expected, ordered) {
                "the same rows as the reference query"
            } else {
                "other rows than the reference query"
            }
        }
        Err(error) => {
            println!("{error:#}");
            "the database refuses this query"
        }
    };
    println!("result:   {verdict}");
    match completion.tokens_per_forward {
        Some(rate) => println!("tokens per forward: {rate:.2}\n"),
        None => println!("tokens per forward: not reported by the server\n"),
    }
    Ok(())
}

fn render(answer: &Answer) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_BORDERS_ONLY_CONDENSED);
    table.set_header(&answer.columns);
    for row in answer.rows.iter().take(SHOWN_ROWS) {
        table.add_row(row);
    }
    let more = answer.rows.len().saturating_sub(SHOWN_ROWS);
    if more == 0 { table.to_string() } else { format!("{table}\n… and {more} more rows") }
}
