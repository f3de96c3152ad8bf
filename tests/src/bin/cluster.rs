//! Starts a cluster for a person to play with, and keeps it until Ctrl-C.

use std::{path::PathBuf, time::Instant};

use clap::Parser;
use cllm_tests::{Cluster, ControlPlane};

/// A Kubernetes on this machine, until Ctrl-C.
#[derive(Debug, Parser)]
struct Args {
    /// How many nodes run Pods (up to four; needs root); without any only the control plane is started.
    #[arg(long, default_value_t = 0)]
    nodes: usize,

    /// An image archive that every node has from the start; may be repeated.
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { nodes, image } = Args::parse();
    let started = Instant::now();
    if nodes == 0 {
        let control_plane = ControlPlane::start().await?;
        return until_stopped(&control_plane, started).await;
    }
    let cluster = Cluster::start(nodes, &image).await?;
    until_stopped(cluster.control_plane(), started).await
}

#[expect(clippy::print_stdout, reason = "the line to copy is the program's result")]
async fn until_stopped(control_plane: &ControlPlane, started: Instant) -> anyhow::Result<()> {
    eprintln!("Ready after {:.1} s. Ctrl-C ends it and removes all of it.", started.elapsed().as_secs_f32());
    println!("export KUBECONFIG={}", control_plane.kubeconfig().display());
    Ok(tokio::signal::ctrl_c().await?)
}
