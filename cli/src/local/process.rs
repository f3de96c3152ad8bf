//! Child processes that cannot outlive this one: an own process group, a log file, and death with the parent.
//!
//! Must be used from the main thread only: the kernel ends a child when the *thread* that made it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::translate::LocalCommand;

/// How many lines of a log an error shows.
const TAIL_LINES: usize = 12;
/// How far back they are looked for.
const TAIL_BYTES: u64 = 16 * 1024;

/// Where the binaries of the containers are looked up, in this order, before PATH.
#[derive(Clone, Debug, Default)]
pub(super) struct ProgramFolders(Vec<PathBuf>);

impl ProgramFolders {
    /// `first` when given, then the folder of the running binary.
    pub(super) fn new(first: Option<&Path>) -> Self {
        let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
        Self(first.map(Path::to_owned).into_iter().chain(beside).collect())
    }

    /// The file to execute, if there is one.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = self.0.iter().cloned().chain(std::env::split_paths(&path));
        folders.map(|folder| folder.join(program)).find(|file| file.is_file())
    }
}

/// The process group of a child that has not been waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(Pid);

impl Group {
    /// Asks the child to end.
    pub(super) fn terminate(self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the child and what it started.
    pub(super) fn kill(self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(self, signal: Signal) {
        // a group that is already gone needs no signal
        let _ = killpg(self.0, signal);
    }
}

/// Starts `program` with the arguments and the environment of `command`; its output is appended to `log`.
pub(super) fn spawn(program: &Path, command: &LocalCommand, log: &Path) -> std::io::Result<(Child, Group)> {
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    let mut process = Command::new(program);
    process
        .args(&command.args)
        .envs(&command.env)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .kill_on_drop(true);
    die_with_parent(&mut process);
    let child = process.spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
    Ok((child, Group(Pid::from_raw(id))))
}

#[expect(unsafe_code, reason = "only between fork and exec can a child ask to die with its parent")]
fn die_with_parent(process: &mut Command) {
    let parent = nix::unistd::getpid();
    let ask = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // the parent may have died between fork and prctl; then nobody will send the signal
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
    };
    // SAFETY: the closure makes two system calls, allocates nothing and takes no lock.
    unsafe {
        process.pre_exec(ask);
    }
}

/// The exit code as a container runtime reports it: 128 + signal for a process that a signal ended.
pub(super) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The last lines of a log, oldest first; empty when there are none.
pub(super) fn tail(log: &Path) -> Vec<String> {
    let text = read_end(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|&line| line.to_owned()).collect()
}

fn read_end(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
