//! The command line of `cllm-operator`.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

use crate::controller::LeaderElection;
use crate::election::Timing;
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
    /// Checks that an operator answers and is ready: `helm test` runs this.
    Check {
        /// Where its metrics port is, as http://cllm-operator.cllm.svc:9090.
        url: String,
    },
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

    /// Let only one of several operators act: the one that holds a Lease.
    #[arg(long, env = "CLLM_LEADER_ELECTION")]
    pub leader_election: bool,

    /// The namespace of the Lease [default: that of this Pod].
    #[arg(long, env = "CLLM_LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_election_namespace: Option<String>,

    /// The name of the Lease.
    #[arg(long, env = "CLLM_LEADER_ELECTION_NAME", default_value = "cllm-operator", value_name = "NAME")]
    pub leader_election_name: String,

    /// The name of this process, as the Lease shows it; a random part is added.
    #[arg(long, env = "HOSTNAME", default_value = "cllm-operator", value_name = "NAME")]
    pub host_name: String,

    /// The MutatingWebhookConfiguration through which the API server asks about Pods that want a sidecar; without it none gets one.
    #[arg(long, env = "CLLM_INJECTION_WEBHOOK", value_name = "NAME")]
    pub injection_webhook: Option<String>,

    /// The image of replicas whose spec names none [default: cllm-server of this version].
    #[arg(long, env = "CLLM_SERVER_IMAGE", value_name = "IMAGE")]
    pub server_image: Option<String>,

    /// The image of trainings whose spec names none [default: cllm-trainer of this version].
    #[arg(long, env = "CLLM_TRAINER_IMAGE", value_name = "IMAGE")]
    pub trainer_image: Option<String>,
}

impl RunArgs {
    /// Which Lease to compete for, if any; `namespace` is that of this Pod.
    pub fn leader_election(&self, namespace: &str) -> Option<LeaderElection> {
        self.leader_election.then(|| LeaderElection {
            namespace: self.leader_election_namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            name: self.leader_election_name.clone(),
            // A container that restarts in its Pod is another one.
            identity: format!("{}-{:08x}", self.host_name, rand::random::<u32>()),
            timing: Timing::default(),
        })
    }

    /// The default images.
    pub fn images(&self) -> Images {
        let of_this_version = Images::of_this_version();
        Images {
            server: self.server_image.clone().unwrap_or(of_this_version.server),
            trainer: self.trainer_image.clone().unwrap_or(of_this_version.trainer),
        }
    }
}
