//! Runs the `kubectl` of the cluster's own version.

use std::{path::PathBuf, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::Error;

/// What a successful `kubectl` wrote.
#[derive(Debug, Clone)]
pub struct KubectlOutput {
    /// The answer.
    pub stdout: String,
    /// Warnings of the API server, among other things.
    pub stderr: String,
}

/// The program and the cluster it talks to.
#[derive(Debug)]
pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// Instead of the home folder, so that neither its caches nor a person's settings take part.
    pub(crate) home: PathBuf,
}

impl Kubectl {
    /// Runs it with `arguments`, and with `input` on stdin.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Result<KubectlOutput, Error> {
        let failed = || Error::io("run kubectl");
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed())?;
        let mut stdin = child.stdin.take();
        // Side by side: either pipe may fill before the other is served. kubectl may also end
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
            Ok(KubectlOutput { stdout, stderr })
        } else {
            Err(Error::Kubectl { arguments: arguments.join(" "), status: output.status, stderr })
        }
    }
}
