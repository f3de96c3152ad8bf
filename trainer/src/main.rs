//! The binary `cllm-trainer`: prepares the process, parses the command line and runs.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use cllm_trainer::arguments::Arguments;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    cllm_trainer::memory::keep_for_reuse();
    quiet_candle();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    cllm_trainer::run(&Arguments::parse())
}

/// candle adds tensors on a pool of spinning threads of its own, which would take the cores from our data-parallel ones.
#[expect(unsafe_code, reason = "the variable is candle's only switch, and it reads it once")]
fn quiet_candle() {
    // SAFETY: called in main before any other thread exists.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
}
