//! The binary `cllm-server`: parses the command line and calls the library.

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use cllm_server::{Args, run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let on_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(on_terminal).init();
    let last_words = args.termination_message.clone();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(path) = last_words
                && let Err(problem) = std::fs::write(&path, format!("{error}\n"))
            {
                eprintln!("error: {} cannot be written: {problem}.", path.display());
            }
            error.exit_code()
        }
    }
}
