//! The command line of `cllm-operator`.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

use crate::images::Images;

/// Keeps CllmModels served and CllmTrainings running.
#[derive(Clone, Debug, Parser)]
#[command(name = "cllm-operator", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Reconciles both kinds until it is told to stop (SIGTERM or Ctrl-C).
    Run(RunArgs),
}

/// How to run.
#[derive(Clone, Debug, Parser)]
pub struct RunArgs {
    /// The only namespace to look at [default: all].
    #[arg(long, env = "CLLM_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// The address of /livez, /readyz and /metrics.
    #[arg(long, env = "CLLM_METRICS_ADDRESS", default_value = "0.0.0.0:9090", value_name = "ADDRESS")]
    pub metrics_address: SocketAddr,

    /// The image of replicas whose spec names none [default: cllm-server of this version].
    #[arg(long, env = "CLLM_SERVER_IMAGE", value_name = "IMAGE")]
    pub server_image: Option<String>,

    /// The image of trainings whose spec names none [default: cllm-trainer of this version].
    #[arg(long, env = "CLLM_TRAINER_IMAGE", value_name = "IMAGE")]
    pub trainer_image: Option<String>,
}

impl RunArgs {
    /// The default images.
    pub fn images(&self) -> Images {
        let of_this_version = Images::of_this_version();
        Images {
            server: self.server_image.clone().unwrap_or(of_this_version.server),
            trainer: self.trainer_image.clone().unwrap_or(of_this_version.trainer),
        }
    }
}
