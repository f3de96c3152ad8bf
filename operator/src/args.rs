//! The command line of `cllm-operator`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::adapter::{Mode, ServiceAddress};
use crate::certificates::{Rules, Source};
use crate::controller::LeaderElection;
use crate::election::Timing;
use crate::https::{Closing, HttpsSettings};
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
    Run(Box<RunArgs>),
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

    /// The image of replicas whose spec names none [default: cllm-server of this version].
    #[arg(long, env = "CLLM_SERVER_IMAGE", value_name = "IMAGE")]
    pub server_image: Option<String>,

    /// The image of trainings whose spec names none [default: cllm-trainer of this version].
    #[arg(long, env = "CLLM_TRAINER_IMAGE", value_name = "IMAGE")]
    pub trainer_image: Option<String>,

    /// What is served over HTTPS.
    #[command(flatten)]
    pub https: HttpsArgs,
}

/// What is served over HTTPS, by every replica: metrics for autoscalers, and the injection of sidecars. Nothing is with --namespace, since the
/// API server asks for both on behalf of the whole cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct HttpsArgs {
    /// Offer metrics to autoscalers (custom.metrics.k8s.io): where nobody else does (auto), in any case (true; another provider is left alone
    /// and reported), or not at all.
    #[arg(long, env = "CLLM_METRICS_ADAPTER", value_enum, default_value = "false", value_name = "WHEN")]
    pub metrics_adapter: Mode,

    /// The MutatingWebhookConfiguration through which the API server asks about Pods that want a sidecar: it is told where to ask and which
    /// authorities to trust [default: there is none, and no Pod gets one].
    #[arg(long, env = "CLLM_INJECTION_WEBHOOK", value_name = "NAME")]
    pub injection_webhook: Option<String>,

    /// The address of HTTPS.
    #[arg(long, env = "CLLM_HTTPS_ADDRESS", default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub https_address: SocketAddr,

    /// The Service in front of all replicas.
    #[arg(long, env = "CLLM_SERVICE_NAME", default_value = "cllm-operator", value_name = "NAME")]
    pub service_name: String,

    /// Its namespace, and that of the Secret [default: that of this Pod].
    #[arg(long, env = "CLLM_SERVICE_NAMESPACE", value_name = "NAMESPACE")]
    pub service_namespace: Option<String>,

    /// The port of the Service that leads to HTTPS.
    #[arg(long, env = "CLLM_SERVICE_PORT", default_value_t = 8443, value_name = "PORT")]
    pub service_port: u16,

    /// What names within the cluster end with.
    #[arg(long, env = "CLLM_CLUSTER_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,

    /// The ClusterRole that owns what is registered with the API server, so that it goes with it [default: nothing does].
    #[arg(long, env = "CLLM_OWNER_CLUSTER_ROLE", value_name = "NAME")]
    pub owner_cluster_role: Option<String>,

    /// The Secret with the certificate and its authorities.
    #[arg(long, env = "CLLM_CERTIFICATE_SECRET", default_value = "cllm-operator-certificates", value_name = "NAME")]
    pub certificate_secret: String,

    /// Somebody else, as cert-manager, keeps that Secret (tls.crt, tls.key, ca.crt): it is only read.
    #[arg(long, env = "CLLM_CERTIFICATES_GIVEN")]
    pub certificates_given: bool,

    /// How long an authority lives; it is replaced at two thirds of that. For tests.
    #[arg(long, hide = true, default_value_t = 10 * YEAR, value_name = "SECONDS", value_parser = lifetime)]
    pub authority_lifetime: u64,

    /// How long a certificate lives; it is replaced at two thirds of that. For tests.
    #[arg(long, hide = true, default_value_t = YEAR, value_name = "SECONDS", value_parser = lifetime)]
    pub certificate_lifetime: u64,

    /// How long an authority is published before anything that it signed is served. For tests.
    #[arg(long, hide = true, default_value_t = 300, value_name = "SECONDS")]
    pub authority_overlap: u64,
}

const YEAR: u64 = 365 * 24 * 3600;

/// Below that nothing could be replaced in time.
fn lifetime(text: &str) -> Result<u64, String> {
    let seconds: u64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    if seconds < 6 { Err("a certificate lives for at least 6 seconds".to_owned()) } else { Ok(seconds) }
}

impl HttpsArgs {
    /// Whether anything is served over HTTPS by an operator for that namespace, or for all.
    pub fn serves(&self, namespace: Option<&str>) -> bool {
        namespace.is_none() && (self.metrics_adapter != Mode::False || self.injection_webhook.is_some())
    }

    /// What to serve; `namespace` is that of this Pod.
    pub fn settings(&self, namespace: &str) -> HttpsSettings {
        let service = ServiceAddress {
            namespace: self.service_namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            name: self.service_name.clone(),
            port: self.service_port,
            cluster_domain: self.cluster_domain.clone(),
        };
        let rules = Rules {
            names: service.host_names().into(),
            authority_lifetime: Duration::from_secs(self.authority_lifetime),
            serving_lifetime: Duration::from_secs(self.certificate_lifetime),
            overlap: Duration::from_secs(self.authority_overlap),
        };
        HttpsSettings {
            service,
            secret: self.certificate_secret.clone(),
            certificates: if self.certificates_given { Source::Given } else { Source::Own(rules) },
            adapter: self.metrics_adapter,
            injection_webhook: self.injection_webhook.clone(),
            owner: self.owner_cluster_role.clone(),
            closing: Closing::default(),
        }
    }
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
