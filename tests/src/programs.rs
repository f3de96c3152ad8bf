//! Where the programs of the cluster are: built on first use by `cluster/build.sh`.

use std::{path::PathBuf, process::Stdio};

use tokio::process::Command;

use crate::Error;

/// The script, relative to this crate.
const SCRIPT: &str = "cluster/build.sh";

/// The folder with the programs of these groups, which takes about ten minutes when they are not built yet.
pub(crate) async fn folder(groups: &[&str]) -> Result<PathBuf, Error> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    let output = Command::new(script)
        .args(groups)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit()) // past the capture of the test harness: ten silent minutes look like a hang
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::io(format!("run {SCRIPT}")))?;
    if !output.status.success() {
        return Err(Error::Build { script: SCRIPT, status: output.status });
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
}
