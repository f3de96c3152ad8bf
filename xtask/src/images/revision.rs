//! Of which source an image is made, and when: what makes two builds of one commit alike.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use jiff::Timestamp;

/// The source of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The time of everything in the image.
    pub(crate) time: Timestamp,
    /// The commit (`-dirty` with changes that are not committed); none outside a repository.
    pub(crate) commit: Option<String>,
}

impl Revision {
    /// The commit that is checked out; `source_date_epoch` (seconds) replaces its time.
    pub(crate) fn of_repository(root: &Path, source_date_epoch: Option<u32>) -> anyhow::Result<Self> {
        let commit = git(root, &["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
        let seconds = match source_date_epoch {
            Some(seconds) => i64::from(seconds),
            None => git(root, &["log", "-1", "--format=%ct"])
                .and_then(|seconds| seconds.parse().context("git gave no time"))
                .context("the time of the commit is unknown: set SOURCE_DATE_EPOCH to seconds since 1970")?,
        };
        let time = Timestamp::from_second(seconds).context("the time of the source is out of range")?;
        Ok(Self { time, commit: commit.ok() })
    }
}

fn git(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().context("cannot run git")?;
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout).context("git wrote no UTF-8")?.trim().to_owned())
}
