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

impl Library {
    /// Whether it comes from a folder, if there is one.
    pub(crate) fn is_in(&self, folder: Option<&Path>) -> bool {
        folder.is_some_and(|folder| self.source.starts_with(folder))
    }
}

/// NVIDIA's driver: the container runtime of a node with a GPU brings the one that fits its kernel.
const DRIVER: &str = "libcuda.so.1";

/// What NVIDIA's libraries load by name at run time, so that no loader tells of it.
const LOADED_BY_NAME: [&str; 1] = ["libnvrtc-builtins.so.13.0"];

/// The folder of NVIDIA's libraries, as tests/cuda/environment.sh tells it.
pub(crate) fn toolkit() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CUDA_HOME");
    let home =
        home.context("CUDA_HOME is not set: run this by `bash tests/cuda/environment.sh`, as `make images-cuda` does")?;
    Ok(PathBuf::from(home).join("lib"))
}

/// Asks the loader, which looks into the folder of NVIDIA's libraries first, if there is one.
pub(crate) fn of_binary(binary: &Path, toolkit: Option<&Path>) -> anyhow::Result<Vec<Library>> {
    let mut ldd = Command::new("ldd");
    ldd.env("LC_ALL", "C").env("LD_LIBRARY_PATH", toolkit.unwrap_or(Path::new(""))).arg(binary);
    let output = ldd.output().context("cannot run ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ldd {}: {}{}", binary.display(), said.trim(), complaint.trim());
    let libraries = parse(&said).with_context(|| format!("{} cannot be put into an image", binary.display()))?;
    Ok(with_loaded_by_name(libraries, toolkit))
}

/// Beside a library of the toolkit lies what it loads by name.
fn with_loaded_by_name(mut libraries: Vec<Library>, toolkit: Option<&Path>) -> Vec<Library> {
    let first = libraries.iter().find(|library| library.is_in(toolkit)).cloned();
    if let (Some(library), Some(toolkit)) = (first, toolkit) {
        libraries.extend(LOADED_BY_NAME.map(|name| Library {
            target: Path::new(&library.target).with_file_name(name).to_string_lossy().into_owned(),
            source: toolkit.join(name),
        }));
    }
    libraries
}

/// Reads what ldd says. All libraries get into the folder of the C library, which the loader searches without a cache.
fn parse(said: &str) -> anyhow::Result<Vec<Library>> {
    let mut loader = None;
    let mut needed = Vec::new();
    for line in said.lines() {
        let line = line.split(" (0x").next().unwrap_or(line).trim();
        match line.split_once(" => ") {
            Some((DRIVER, _)) => {}
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
    fn the_driver_is_left_to_the_node_and_what_is_loaded_by_name_comes_along() {
        let said = SERVER
            .replace("libgcc_s.so.1 => /opt/gcc/lib/libgcc_s.so.1", "libcublas.so.13 => /cu13/lib/libcublas.so.13");
        for driver in ["not found", "/usr/lib/x86_64-linux-gnu/libcuda.so.1 (0x00007fc71e5a2000)"] {
            let found = parse(&format!("\tlibcuda.so.1 => {driver}\n{said}")).unwrap();
            assert_eq!(found, parse(&said).unwrap());
            let toolkit = Some(Path::new("/cu13/lib"));
            let names: Vec<_> = with_loaded_by_name(found, toolkit)
                .into_iter()
                .filter(|library| library.is_in(toolkit))
                .map(|library| library.target)
                .collect();
            assert_eq!(
                names,
                ["lib/x86_64-linux-gnu/libcublas.so.13", "lib/x86_64-linux-gnu/libnvrtc-builtins.so.13.0"]
            );
        }
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = parse("\tlibz.so.1 => not found\n").unwrap_err().to_string();
        assert!(error.contains("libz.so.1"), "{error}");
        let musl = "\tlibc.musl.so => /lib/ld-musl.so (0x1)\n\t/lib/ld-musl.so (0x2)\n";
        assert!(parse(musl).unwrap_err().to_string().contains("GNU C library"));
    }
}
