//! The command line of cllm: `render`, `up`, `chat`, `bench`, `export-gguf`. Thin verbs over the operator's pure half, the engine and HTTP.
//!
//! Nothing here talks to a cluster.

pub mod args;
mod bench;
mod chat;
mod columns;
mod documents;
mod error;
mod export_gguf;
mod local;
mod render;
mod schema;
mod validated;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use crate::error::CliError;

/// Parses the arguments of this process, runs the command and says what went wrong.
pub fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Render(arguments) => render::run(&arguments),
        Command::Up(arguments) => on_this_thread(local::run::up(arguments)),
        Command::Chat(arguments) => on_this_thread(chat::run(arguments)),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::ExportGguf(arguments) => export_gguf::run(&arguments),
    }
}

/// One thread, the main one: children that ask the kernel to die with the thread that made them die with the process.
fn on_this_thread(work: impl Future<Output = Result<ExitCode, CliError>>) -> Result<ExitCode, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::runtime)?.block_on(work)
}
