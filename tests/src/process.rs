//! Programs and a folder that do not outlive the test process, however that ends.
//!
//! Rust drops no statics and nothing at all on SIGKILL, so neither may depend on `Drop` alone:
//!
//! * Every program is started through `setpriv --pdeathsig KILL`: the kernel kills it when its
//!   parent dies. To the kernel the parent is the *thread* that started it, and a test's thread
//!   ends with the test; so all programs are started by one keeper thread, which lives as long as
//!   the process.
//! * The folder is removed by a small shell that waits on a pipe from this process. When the
//!   process ends, the kernel closes the pipe, and the shell goes to work.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    iter,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
};

use crate::{
    Error,
    network::{self, Network},
};

type Order = (Command, mpsc::Sender<io::Result<Child>>);

static KEEPER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, received) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, reply) in received {
            // A failed send means that whoever asked is gone: then nobody wants the child either.
            let _ = reply.send(command.spawn());
        }
    });
    orders
});

fn start_in_keeper(command: Command) -> io::Result<Child> {
    let gone = |_| io::Error::other("the thread that starts the cluster's programs is gone");
    let (reply, child) = mpsc::channel();
    KEEPER.send((command, reply)).map_err(|_| gone(mpsc::RecvError))?;
    child.recv().map_err(gone)?
}

/// A running program of the cluster, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `programs/program` with its output in `folder/program.log`.
    pub(crate) fn start(
        programs: &Path,
        program: &'static str,
        flags: Vec<String>,
        folder: &Path,
    ) -> Result<Self, Error> {
        let executable = programs.join(program).into_os_string();
        Self::run(program, iter::once(executable).chain(flags.into_iter().map(OsString::from)), folder)
    }

    /// Runs a command line under the name `program`, with its output in `folder/program.log`.
    pub(crate) fn run(
        program: &'static str,
        command_line: impl IntoIterator<Item = OsString>,
        folder: &Path,
    ) -> Result<Self, Error> {
        let failed = || Error::io(format!("start {program}"));
        let log = folder.join(format!("{program}.log"));
        let output = File::create(&log).map_err(failed())?;
        let mut command = Command::new("setpriv"); // of util-linux, as is the flock of build.sh
        command.args(["--pdeathsig", "KILL"]).args(command_line);
        // A group of its own: Ctrl-C is for the test process, which then takes its programs along.
        command.process_group(0).current_dir(folder).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(failed())?).stderr(output);
        let child = start_in_keeper(command).map_err(failed())?;
        Ok(Self { program, child, log })
    }

    /// How the program ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn last_lines(&self) -> String {
        const LINES: usize = 15;
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing in the cluster is worth an orderly end. Both fail only if it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of this process, readable by its user only, removed when dropped or when the process ends.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    remover: Child,
}

/// Programs that are being killed may still write: hence more than one attempt.
const REMOVE: &str = r#"
    read -r word
    [ $# -lt 3 ] || "$2" down "$3"
    [ "$word" = keep ] && exit
    for attempt in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 0.2; done"#;

impl Folder {
    /// Makes it; `network` is removed with it.
    pub(crate) fn create(network: Option<&Network>) -> Result<Self, Error> {
        let failed = || Error::io("create the cluster's folder");
        let folder = tempfile::Builder::new().prefix("cllm-cluster-").tempdir().map_err(failed())?;
        let mut command = Command::new("sh");
        command.args(["-c", REMOVE, "remove-cluster-folder"]).arg(folder.path());
        command.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(network) = network {
            command.arg(network::script()).arg(network.id().to_string());
            // The shell holds the claim on the network too, until it has removed it.
            command.stdout(network.claim().map_err(failed())?);
        }
        let remover = command.spawn().map_err(failed())?;
        Ok(Self { path: folder.keep(), remover })
    }

    /// Leaves the folder where it is, for a person to look into.
    pub(crate) fn keep(&mut self) {
        if let Some(mut pipe) = self.remover.stdin.take() {
            // Fails only if the shell was killed, and then it removes nothing either.
            let _ = pipe.write_all(b"keep\n");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}
