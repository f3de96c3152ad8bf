//! From arguments to an exit code: sets up status page and signals, runs the stage, leaves the last words.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use cllm_crds::status_page::{JobStage, TERMINATION_MESSAGE_LIMIT, TerminationMessage};

use crate::arguments::{Arguments, Command};
use crate::evaluate::Evaluated;
use crate::failure::Result;
use crate::progress::{Reporter, new_status};
use crate::{adapt, background, collect, consistency, init, inspect, remote};

/// Runs the stage. Errors go to the log and the termination message.
pub fn run(arguments: &Arguments) -> ExitCode {
    let stage = arguments.command.stage();
    let outcome = run_stage(arguments, stage);
    let (message, code) = match outcome {
        Ok(message) => (message, ExitCode::SUCCESS),
        Err(failure) => {
            tracing::error!("{failure}");
            (
                TerminationMessage { error: Some(failure.to_string()), ..empty(stage) },
                ExitCode::from(failure.exit_code()),
            )
        }
    };
    match arguments.common.termination_message.as_deref().map(|path| leave(path, message)) {
        Some(Err(error)) => {
            tracing::error!("the termination message could not be written: {error}");
            code
        }
        _ => code,
    }
}

fn run_stage(arguments: &Arguments, stage: JobStage) -> Result<TerminationMessage> {
    let common = &arguments.common;
    let status = new_status(stage);
    let interrupted = background::start(status.clone(), common.host, common.metrics_port)?;
    let mut reporter = Reporter::new(status, interrupted, std::io::stderr().is_terminal());
    let threads = common.thread_count();
    match &remote::localize(&arguments.command, &common.storage, &mut reporter)? {
        Command::Init(init) => init::run(init).map(|()| empty(stage)),
        Command::Adapt(adapt) => adapt::run(adapt, threads, &mut reporter).map(|()| empty(stage)),
        Command::Inspect(inspect) => inspect::run(inspect, threads).map(|()| empty(stage)),
        Command::Collect(collect) => {
            let trajectories = collect::run(collect, threads, &mut reporter)?;
            Ok(TerminationMessage { trajectories: Some(trajectories), ..empty(stage) })
        }
        Command::Train(train) => consistency::run(train, threads, &mut reporter).map(|()| empty(stage)),
        Command::Evaluate(evaluate) => remote::evaluate(evaluate, &common.storage, threads, &mut reporter)
            .map(|evaluated| measured(evaluated, stage)),
        Command::Report(report) => {
            remote::report(report, &common.storage, &mut reporter).map(|evaluated| measured(evaluated, stage))
        }
    }
}

fn measured(evaluated: Evaluated, stage: JobStage) -> TerminationMessage {
    TerminationMessage {
        speedup: Some(evaluated.report.speedup),
        quality: Some(evaluated.report.quality),
        output: Some(evaluated.output),
        ..empty(stage)
    }
}

fn empty(stage: JobStage) -> TerminationMessage {
    TerminationMessage { stage, error: None, trajectories: None, speedup: None, quality: None, output: None }
}

/// The kubelet made the file and watches it, so it is written in place.
fn leave(path: &Path, mut message: TerminationMessage) -> std::io::Result<()> {
    let mut text = serde_json::to_string(&message)?;
    while text.len() > TERMINATION_MESSAGE_LIMIT
        && let Some(error) = &mut message.error
        && !error.is_empty()
    {
        let keep = error.chars().count() / 2;
        *error = error.chars().take(keep).collect();
        text = serde_json::to_string(&message)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_short_and_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("message");
        for length in [0, 10, 5000] {
            leave(&path, TerminationMessage { error: Some("ö\"".repeat(length)), ..empty(JobStage::Training) })
                .unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.len() <= TERMINATION_MESSAGE_LIMIT);
            let message: TerminationMessage = serde_json::from_str(&text).unwrap();
            assert_eq!(message.error.unwrap().is_empty(), length == 0);
        }
    }
}
