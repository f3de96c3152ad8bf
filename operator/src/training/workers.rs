//! A training over several processes: how its Pods find each other, and that nobody else reaches them.

use cllm_crds::status_page::JobStage;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::naming::{Labels, STAGE_LABEL, selector_labels, training_labels};
use crate::pod::Arguments;
use crate::training::ValidTraining;
use crate::training::job::subcommand;
use crate::training::network_policy::tcp;

/// The port of the first process.
pub(super) const PORT: i32 = 7000;
/// What it is called.
pub(super) const PORT_NAME: &str = "coordinator";
/// How long the processes look for each other: longer than the ten minutes after which a Job replaces a Pod at the latest.
const JOIN_TIMEOUT_SECONDS: u32 = 900;

/// Whether there are several.
fn are_several(training: &ValidTraining) -> bool {
    training.spec.training.workers > 1
}

/// The name of the Service.
pub(super) fn service_name(training: &ValidTraining) -> String {
    format!("{}-training-workers", training.owner.name)
}

/// Gives the Pods names, also before they are ready: each of them waits for the others.
pub(super) fn service(training: &ValidTraining) -> Option<Service> {
    are_several(training).then(|| Service {
        metadata: training.owner.child(&service_name(training), &training_labels(&training.owner.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels(training)),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: PORT,
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// How many processes there are, and where those of that Job meet: at its first Pod. Which of them a process is, its Job says.
pub(super) fn add_to(arguments: Arguments, training: &ValidTraining, job: &str, count: u32) -> Arguments {
    let domain = match &training.owner.namespace {
        Some(namespace) => format!("{}.{namespace}.svc", service_name(training)),
        None => service_name(training),
    };
    arguments
        .with("processes", count)
        .with("coordinator", format!("{job}-0.{domain}:{PORT}"))
        .with("join-timeout-seconds", JOIN_TIMEOUT_SECONDS)
}

/// The first process may be reached by the others.
pub(super) fn ingress(training: &ValidTraining) -> Option<NetworkPolicyIngressRule> {
    are_several(training)
        .then(|| NetworkPolicyIngressRule { ports: Some(vec![tcp(PORT)]), from: Some(vec![peer(training)]) })
}

/// The others may talk to the first process.
pub(super) fn egress(training: &ValidTraining) -> Option<NetworkPolicyEgressRule> {
    are_several(training)
        .then(|| NetworkPolicyEgressRule { ports: Some(vec![tcp(PORT)]), to: Some(vec![peer(training)]) })
}

fn peer(training: &ValidTraining) -> NetworkPolicyPeer {
    let selector = LabelSelector { match_labels: Some(labels(training)), match_expressions: None };
    NetworkPolicyPeer { pod_selector: Some(selector), ..NetworkPolicyPeer::default() }
}

/// Those of the Pods of the stage.
fn labels(training: &ValidTraining) -> Labels {
    let mut labels = selector_labels(&training_labels(&training.owner.name));
    labels.insert(STAGE_LABEL.to_owned(), subcommand(JobStage::Training).to_owned());
    labels
}
