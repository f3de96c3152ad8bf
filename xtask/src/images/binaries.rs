//! The binaries that go into the images.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use super::description::Description;

/// Which binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Optimised ones, built here: the same bytes in every clone of a commit.
    Release,
    /// Those that lie in `target/debug`, as `cargo test` or `cargo build --workspace` left them.
    Dev,
}

/// Where the binaries of a profile are, of the images for CUDA or of the others; builds those of the release. The repository is given as
/// an absolute path.
pub(crate) fn folder(
    profile: Profile,
    cuda: bool,
    root: &Path,
    description: &Description,
    cargo_home: &Path,
) -> anyhow::Result<PathBuf> {
    match profile {
        Profile::Release => build(cuda, root, description, cargo_home),
        Profile::Dev if cuda => Ok(root.join("target/cuda/debug")),
        Profile::Dev => Ok(root.join("target/debug")),
    }
}

/// Builds all packages in one call, also for one image: which features their dependencies get depends on who else is
/// built. A target folder of its own leaves the caches of other builds alone, whose flags differ.
fn build(cuda: bool, root: &Path, description: &Description, cargo_home: &Path) -> anyhow::Result<PathBuf> {
    let target = root.join(if cuda { "target/reproducible-cuda" } else { "target/reproducible" });
    let packages = description.of_kind(cuda).map(|image| format!("--package={}", image.package));
    let mut cargo = Command::new("cargo");
    for name in own_variables() {
        cargo.env_remove(name);
    }
    let status = cargo
        .args(["build", "--locked", "--release", "--bins", "--target-dir"])
        .arg(&target)
        .args(packages)
        .args(cuda.then_some("--features=cuda"))
        .current_dir(root)
        .envs(environment(root, cargo_home))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo did not build the binaries: {status}");
    Ok(target.join("release"))
}

/// What cargo told this program about its own package; build scripts that look there would run again each time.
fn own_variables() -> impl Iterator<Item = OsString> {
    let is_own = |name: &OsString| {
        name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    };
    std::env::vars_os().map(|(name, _)| name).filter(is_own)
}

/// Flags that keep paths of this machine out of the binaries.
fn environment(root: &Path, cargo_home: &Path) -> [(&'static str, String); 3] {
    let prefixes = [(root, "/cllm"), (cargo_home, "/cargo")];
    let flags = |option: &str| prefixes.map(|(path, name)| format!("{option}={}={name}", path.display()));
    [
        ("CARGO_ENCODED_RUSTFLAGS", flags("--remap-path-prefix").join("\x1f")),
        ("CFLAGS", flags("-ffile-prefix-map").join(" ")),
        ("CARGO_PROFILE_RELEASE_DEBUG", "none".to_owned()),
    ]
}

/// The content of a binary without debug information; the names of functions stay for backtraces.
pub(crate) fn stripped(binary: &Path) -> anyhow::Result<Vec<u8>> {
    ensure!(binary.is_file(), "found no {}: build it with `cargo build --workspace`", binary.display());
    let file = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(file.path()).arg(binary).status();
    let status = status.context("cannot run strip (GNU binutils)")?;
    ensure!(status.success(), "strip did not accept {}: {status}", binary.display());
    std::fs::read(file.path()).with_context(|| format!("cannot read what strip made of {}", binary.display()))
}
