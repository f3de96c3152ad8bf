//! `text2sql-data`: writes the shop database and its questions into a folder.
#![expect(clippy::print_stdout, reason = "the statistics are this program's output")]

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use rusqlite::Connection;
use text2sql_generator::database::Shop;
use text2sql_generator::files::write_lines;
use text2sql_generator::pairs::Sampler;
use text2sql_generator::schema::SCHEMA;
use text2sql_generator::split::{Splits, draw};
use text2sql_generator::statistics::statistics;
use text2sql_generator::verify::verify;

/// Makes the shop database and questions about it, the same bytes for the same arguments.
#[derive(Debug, Parser)]
#[command(name = "text2sql-data", version)]
struct Arguments {
    /// Folder that gets shop.sqlite, schema.sql and {train,dev,test}.jsonl.gz
    #[arg(long)]
    output: PathBuf,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pairs to train on
    #[arg(long, default_value_t = 200_000)]
    train: usize,
    /// Pairs to choose settings by
    #[arg(long, default_value_t = 2_000)]
    dev: usize,
    /// Pairs to report on
    #[arg(long, default_value_t = 4_000)]
    test: usize,
    /// Queries of a split to run, beside compiling all of them
    #[arg(long, default_value_t = 5_000)]
    execute: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = &arguments.output;
    std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let shop = Shop::new(arguments.seed);
    shop.write(&folder.join("shop.sqlite"))?;
    std::fs::write(folder.join("schema.sql"), SCHEMA).context("failed to write schema.sql")?;
    let sampler = Sampler::new(&shop)?;
    let sizes = Splits { train: arguments.train, dev: arguments.dev, test: arguments.test };
    let splits = draw(&sampler, arguments.seed, sizes)?;
    let connection = Connection::open(folder.join("shop.sqlite"))?;
    println!("{} intents", sampler.len());
    for (name, pairs) in splits.named() {
        let checked = verify(&connection, pairs, arguments.execute)?;
        write_lines(&folder.join(format!("{name}.jsonl.gz")), pairs)?;
        let empty = 100.0 * checked.empty as f64 / checked.executed.max(1) as f64;
        println!(
            "{name}: {}; {} queries compiled, {} run, {empty:.1} % empty",
            statistics(pairs),
            checked.compiled,
            checked.executed
        );
    }
    Ok(())
}
