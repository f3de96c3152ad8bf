//! `cargo run -p xtask -- generate --mode write|check`: everything that is generated, written, or checked to be fresh;
//! `cargo run -p xtask -- images`: the container images.

mod artifacts;
mod chart;
mod images;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifacts::Artifact;
use clap::{Parser, Subcommand, ValueEnum};

/// Tasks of this repository.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that is generated: CRDs, schemas, values of the chart, Dockerfiles.
    Generate {
        /// Write the files, or only check that they are fresh.
        #[arg(long, value_enum)]
        mode: Mode,
        /// The repository.
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
        root: PathBuf,
    },
    /// Container images as OCI archives, made without a container engine.
    Images(images::Args),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Write,
    Check,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Generate { mode, root } => generate(mode, &root),
        Command::Images(args) => images::run(&args),
    }
}

fn generate(mode: Mode, root: &Path) -> anyhow::Result<()> {
    let artifacts = artifacts::all(root)?;
    match mode {
        Mode::Write => artifacts.iter().try_for_each(|artifact| write(root, artifact)),
        Mode::Check => check(root, &artifacts),
    }
}

fn write(root: &Path, artifact: &Artifact) -> anyhow::Result<()> {
    let path = root.join(&artifact.path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(&path, &artifact.content).with_context(|| format!("cannot write {}", path.display()))
}

fn check(root: &Path, artifacts: &[Artifact]) -> anyhow::Result<()> {
    let is_stale = |artifact: &&Artifact| {
        std::fs::read_to_string(root.join(&artifact.path)).ok().as_ref() != Some(&artifact.content)
    };
    let stale: Vec<_> = artifacts.iter().filter(is_stale).map(|artifact| artifact.path.as_str()).collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!("stale: {}; run `cargo run -p xtask -- generate --mode write`", stale.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_changed_file_are_stale_and_a_written_one_is_fresh() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = [Artifact::new("a/one.yaml", "1\n".to_owned()), Artifact::new("two.json", "2\n".to_owned())];
        write(root.path(), &artifacts[0]).unwrap();
        let error = check(root.path(), &artifacts).unwrap_err().to_string();
        assert!(error.contains("two.json") && !error.contains("one.yaml"), "{error}");
        write(root.path(), &artifacts[1]).unwrap();
        check(root.path(), &artifacts).unwrap();
        std::fs::write(root.path().join("two.json"), "changed").unwrap();
        assert!(check(root.path(), &artifacts).is_err());
    }
}
