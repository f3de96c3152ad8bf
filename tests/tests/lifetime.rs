//! Nothing of a test cluster outlives the process that started it, and a failed start says why.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use cllm_tests::eventually;

#[tokio::test]
async fn a_killed_owner_leaves_neither_programs_nor_folder() -> anyhow::Result<()> {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_cluster")).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(owner.stdout.take().context("no stdout")?).read_line(&mut line)?;
    let kubeconfig = PathBuf::from(line.trim_end().strip_prefix("export KUBECONFIG=").context(line.clone())?);
    let address = server_address(&kubeconfig)?;
    TcpStream::connect(&address).context("the API server does not listen")?;

    owner.kill()?; // SIGKILL: no code of ours runs after this
    owner.wait()?;
    let folder = kubeconfig.parent().context("a kubeconfig without a folder")?;
    eventually("the end of all", Duration::from_secs(10), async || {
        match (TcpStream::connect(&address), folder.exists()) {
            (Err(_), false) => Ok(()),
            (connected, exists) => Err(format!("API server listens: {}, folder exists: {exists}", connected.is_ok())),
        }
    })
    .await?;
    Ok(())
}

fn server_address(kubeconfig: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(kubeconfig)?;
    let (_, rest) = text.split_once("https://").context("no server in the kubeconfig")?;
    Ok(rest.split('\'').next().context("no end of the server's address")?.to_owned())
}

#[test]
fn a_program_that_ends_during_start_up_is_named_with_its_last_words() -> anyhow::Result<()> {
    let cache = tempfile::tempdir()?;
    let programs = cache.path().join(programs_below_the_cache()?);
    fs::create_dir_all(&programs)?;
    for (program, script) in [
        ("etcd", "echo the disk is on fire; exit 3"),
        ("kube-apiserver", "exec sleep 60"),
        ("kube-controller-manager", "exec sleep 60"),
        ("kubectl", "exit 1"),
    ] {
        let path = programs.join(program);
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }

    let start = Command::new(env!("CARGO_BIN_EXE_cluster")).env("CLLM_CACHE_DIR", cache.path()).output()?;
    let said = String::from_utf8(start.stderr)?;
    ensure!(!start.status.success(), "it started");
    ensure!(said.contains("etcd ended with exit status: 3") && said.contains("the disk is on fire"), "{said}");
    let (_, rest) = said.split_once("kept at ").context(said.clone())?;
    let folder = Path::new(rest.split(';').next().context(said.clone())?);
    ensure!(folder.join("kube-apiserver.log").exists(), "the folder was not kept: {said}");
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// `cluster/<processor>/bin-<versions>`, where `build.sh` looks for what it need not build.
fn programs_below_the_cache() -> anyhow::Result<PathBuf> {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/build.sh")).output()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim_end());
    let names: Vec<_> = folder.iter().collect();
    ensure!(names.len() > 3, "build.sh printed no folder: {}", folder.display());
    Ok(names[names.len() - 3..].iter().collect())
}
