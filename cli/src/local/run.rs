//! `cllm up FILE`: reads, checks, works until everything is ready, serves until a signal, and leaves no process behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::LocalError;
use super::launch::{Host, PortChoice, is_free};
use super::plan::Plan;
use super::process::ProgramFolders;
use super::reporter::Reporter;
use super::session::Session;
use super::state::Workdir;
use super::translate::MountedObjects;
use crate::CliError;
use crate::args::UpArguments;
use crate::documents;

/// The port that clients try first.
const USUAL_HTTP_PORT: u16 = 8000;
/// What shells report for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(crate) async fn up(arguments: UpArguments) -> Result<ExitCode, CliError> {
    let documents = documents::read(&arguments.file)?;
    let root = workdir_of(&arguments);
    let claims_root = std::path::absolute(&root).unwrap_or_else(|_| root.clone()).join("claims");
    let plan = Plan::new(&arguments.file, documents, &arguments.claims, claims_root)?;
    let http_port = http_port(arguments.http_port)?;
    let workdir = Workdir::open(&root)?;
    let host = Host {
        programs: ProgramFolders::new(arguments.bin_dir.as_deref()),
        claims: plan.claims.clone(),
        objects: MountedObjects::new(&arguments.secrets, &arguments.config_maps),
        logs: workdir.logs(),
        scratch: workdir.scratch(),
    };
    let mut signals = Signals::new().map_err(CliError::runtime)?;
    let mut session = Session::new(plan, host, workdir, http_port, Reporter::new(arguments.output))?;
    let outcome = drive(&mut session, &mut signals, arguments.exit_when_ready).await;
    let stopped = session.stop(signals.next()).await;
    let code = outcome?;
    stopped?;
    Ok(code)
}

async fn drive(session: &mut Session, signals: &mut Signals, exit_when_ready: bool) -> Result<ExitCode, LocalError> {
    tokio::select! {
        worked = session.work() => worked?,
        () = signals.next() => {
            session.note("stopping; run the same command again to go on (Ctrl-C again ends the processes at once)");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    if exit_when_ready || !session.has_models() {
        return Ok(ExitCode::SUCCESS);
    }
    tokio::select! {
        served = session.serve() => match served? {},
        () = signals.next() => {
            session.note("stopping (Ctrl-C again ends the processes at once)");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn workdir_of(arguments: &UpArguments) -> PathBuf {
    arguments.workdir.clone().unwrap_or_else(|| {
        let stem = arguments.file.file_stem().unwrap_or_default();
        Path::new(".cllm").join(stem)
    })
}

/// The port that was asked for, which must be free; else the usual one, if it is when the model starts.
fn http_port(asked: Option<u16>) -> Result<PortChoice, LocalError> {
    match asked {
        Some(port) if is_free(port) => Ok(PortChoice::Exactly(port)),
        Some(port) => Err(LocalError::Port { port }),
        None => Ok(PortChoice::Preferably(USUAL_HTTP_PORT)),
    }
}

/// Ctrl-C, a polite kill, a closed terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
