//! The shared libraries of a binary: what the dynamic loader of this machine would load for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// A shared library or the loader itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Library {
    /// Its path in an image, without the leading slash.
    pub(crate) target: String,
    /// The file on this machine.
    pub(crate) source: PathBuf,
}

/// Asks the loader.
pub(crate) fn of_binary(binary: &Path) -> anyhow::Result<Vec<Library>> {
    let output = Command::new("ldd").env("LC_ALL", "C").arg(binary).output().context("cannot run ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ldd {}: {}{}", binary.display(), said.trim(), complaint.trim());
    parse(&said).with_context(|| format!("{} cannot be put into an image", binary.display()))
}

/// Reads what ldd says. All libraries get into the folder of the C library, which the loader searches without a cache.
fn parse(said: &str) -> anyhow::Result<Vec<Library>> {
    let mut loader = None;
    let mut needed = Vec::new();
    for line in said.lines() {
        let line = line.split(" (0x").next().unwrap_or(line).trim();
        match line.split_once(" => ") {
            Some((name, "not found")) => bail!("the library {name} is not installed"),
            Some((name, path)) => needed.push((name, PathBuf::from(path))),
            None if line.starts_with('/') => loader = Some(line),
            None => {}
        }
    }
    let Some(loader) = loader else {
        ensure!(needed.is_empty(), "it needs libraries but no loader");
        return Ok(Vec::new());
    };
    let folder = needed.iter().find(|(name, _)| *name == "libc.so.6").and_then(|(_, path)| path.parent()?.to_str());
    let folder = folder.context("it does not use the GNU C library")?.trim_start_matches('/').to_owned();
    let libraries = needed.into_iter().map(|(name, source)| Library { target: format!("{folder}/{name}"), source });
    let loader = Library { target: loader.trim_start_matches('/').to_owned(), source: PathBuf::from(loader) };
    Ok(libraries.chain([loader]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "\tlinux-vdso.so.1 (0x00007fc71e5d3000)
\tlibgcc_s.so.1 => /opt/gcc/lib/libgcc_s.so.1 (0x00007fc71e5a2000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fc71d93e000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007fc71e5d5000)
";

    fn library(target: &str, source: &str) -> Library {
        Library { target: target.to_owned(), source: source.into() }
    }

    #[test]
    fn libraries_get_beside_the_c_library_and_the_loader_stays() {
        let expected = [
            library("lib/x86_64-linux-gnu/libgcc_s.so.1", "/opt/gcc/lib/libgcc_s.so.1"),
            library("lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
            library("lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
        ];
        assert_eq!(parse(SERVER).unwrap(), expected);
        assert_eq!(parse("\tstatically linked\n").unwrap(), []);
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = parse("\tlibz.so.1 => not found\n").unwrap_err().to_string();
        assert!(error.contains("libz.so.1"), "{error}");
        let musl = "\tlibc.musl.so => /lib/ld-musl.so (0x1)\n\t/lib/ld-musl.so (0x2)\n";
        assert!(parse(musl).unwrap_err().to_string().contains("GNU C library"));
    }
}
