//! Runs `kubectl` and `helm`, the clients that people use, as cluster administrator.

use std::{path::PathBuf, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::Error;

/// What a program wrote that ended well.
#[derive(Debug, Clone)]
pub struct ProgramOutput {
    /// The answer.
    pub stdout: String,
    /// Warnings of the API server, among other things.
    pub stderr: String,
}

/// The program and the cluster it talks to.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) executable: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// Instead of the home folder, so that neither its caches nor a person's settings take part.
    pub(crate) home: PathBuf,
}

impl Program {
    /// Runs it with `arguments`, and with `input` on stdin.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Result<ProgramOutput, Error> {
        let failed = || Error::io(format!("run {}", self.name));
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().map_err(failed())?;
        let mut stdin = child.stdin.take();
        // Side by side: either pipe may fill before the other is served. It may also end
        // without reading its input; then its own words say more than our broken pipe.
        let ((), output) = tokio::join!(
            async {
                if let Some(pipe) = &mut stdin {
                    let _ = pipe.write_all(input.as_bytes()).await;
                }
                drop(stdin);
            },
            child.wait_with_output()
        );
        let output = output.map_err(failed())?;
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if output.status.success() {
            Ok(ProgramOutput { stdout, stderr })
        } else {
            Err(Error::Program { name: self.name, arguments: arguments.join(" "), status: output.status, stderr })
        }
    }

    /// The command, killed when its child is dropped.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}
