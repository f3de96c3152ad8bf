//! Starts a control plane for a person to play with, and keeps it until Ctrl-C.

use std::time::Instant;

use cllm_tests::ControlPlane;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the line to copy is the program's result")]
async fn main() -> anyhow::Result<()> {
    let started = Instant::now();
    let cluster = ControlPlane::start().await?;
    eprintln!("Ready after {:.1} s. Ctrl-C ends it and removes all of it.", started.elapsed().as_secs_f32());
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(tokio::signal::ctrl_c().await?)
}
