//! The replicas: how they start, how it is known that they answer, how they are replaced, how they stop. A sidecar is started like them.

use std::collections::BTreeSet;

use cllm_crds::{Device, GateFailure, Gates, PromptsReference, RolloutStrategy};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec,
    Probe, SleepAction, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};

use crate::access::{MountedAccess, Role};
use crate::location::CACHE_FOLDER;
use crate::model::render::child_name;
use crate::model::{ResolvedModel, ValidModel, cache};
use crate::naming::{DIGEST_ANNOTATION, TEMPLATE_ANNOTATION, model_labels, selector_labels};
use crate::pod::{Arguments, HTTP_PORT, METRICS_PORT, Mounts, Program, TERMINATION_MESSAGE_PATH, template};
use crate::sharing::Replicated;

/// Endpoints propagate before the server stops listening.
const PRE_STOP_SLEEP_SECONDS: u32 = 10;
/// Between the end of the drain and the kill.
const SPARE_SECONDS: u32 = 5;
const STARTUP_PERIOD_SECONDS: i32 = 5;
/// A large checkpoint on a slow volume takes this long to load.
const STARTUP_SECONDS: i32 = 3600;
/// A download of hundreds of gigabytes comes on top.
const DOWNLOAD_SECONDS: i32 = 6 * 3600;
const EVERYWHERE: &str = "0.0.0.0";
const LOOPBACK: &str = "127.0.0.1";
/// Where the prompts of the gate are mounted, under the name of their ConfigMap.
const PROMPTS_FOLDER: &str = "/prompts";

/// Who reaches the API of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The cluster: a replica behind the Service.
    Cluster,
    /// The containers of its own Pod, on that port: a sidecar. The names of its ports are not those of the Pod's own.
    OwnPod(u16),
}

impl Reach {
    fn ports(self) -> &'static [(&'static str, i32)] {
        match self {
            Self::Cluster => &[("http", HTTP_PORT), ("metrics", METRICS_PORT)],
            Self::OwnPod(_) => &[("cllm-metrics", METRICS_PORT)],
        }
    }

    /// The port at which the kubelet asks.
    fn probed_port(self) -> &'static str {
        match self {
            Self::Cluster => "http",
            Self::OwnPod(_) => "cllm-metrics",
        }
    }

    fn listen(self, arguments: Arguments) -> Arguments {
        match self {
            Self::Cluster => arguments.with("host", EVERYWHERE).with("http-port", HTTP_PORT),
            Self::OwnPod(port) => {
                arguments.with("host", LOOPBACK).with("metrics-host", EVERYWHERE).with("http-port", port)
            }
        }
    }
}

/// The Deployment.
pub(super) fn deployment(model: &ValidModel, checkpoint: &ResolvedModel) -> Deployment {
    let labels = model_labels(&model.owner.name);
    let mut metadata = model.owner.child(&child_name(model), &labels);
    metadata.labels.get_or_insert_default().extend(model.queue_labels.clone());
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: i32::try_from(model.replicas()).ok(),
            selector: LabelSelector { match_labels: Some(selector_labels(&labels)), match_expressions: None },
            strategy: Some(strategy(model)),
            // A long load is no failure.
            progress_deadline_seconds: Some(startup_seconds(checkpoint) + 600),
            template: stamped_template(model, checkpoint),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// The replicas, of which there are as many as spec and autoscaler allow.
pub fn replicated(model: &ValidModel, checkpoint: &ResolvedModel) -> Replicated {
    let (pods_at_once, field) = match &model.spec.autoscaling {
        Some(autoscaling) => (autoscaling.max_replicas, "spec.autoscaling.maxReplicas"),
        None => (model.spec.replicas, "spec.replicas"),
    };
    Replicated { pod: pod_template(model, checkpoint).spec.unwrap_or_default(), pods_at_once, field }
}

fn strategy(model: &ValidModel) -> DeploymentStrategy {
    let in_place = match model.spec.rollout.strategy {
        // With one GPU a surge would wait forever for a second one.
        // With a volume for one node it would wait forever on another.
        RolloutStrategy::Auto => !model.extended_resources().is_empty() || cache::may_hold_one_node(model),
        RolloutStrategy::Surge => false,
        RolloutStrategy::InPlace => true,
    };
    let (max_surge, max_unavailable) = if in_place { (0, 1) } else { (1, 0) };
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(max_surge)),
            max_unavailable: Some(IntOrString::Int(max_unavailable)),
        }),
    }
}

/// What the annotation [`TEMPLATE_ANNOTATION`] says on the Pods of the model with that checkpoint.
pub fn template_hash(model: &ValidModel, checkpoint: &ResolvedModel) -> String {
    hash(&pod_template(model, checkpoint))
}

fn hash(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_string(template).unwrap_or_default();
    format!("{:x}", Sha256::digest(text))[..16].to_owned()
}

fn stamped_template(model: &ValidModel, checkpoint: &ResolvedModel) -> PodTemplateSpec {
    let mut template = pod_template(model, checkpoint);
    let hash = hash(&template);
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), hash);
    template
}

fn pod_template(model: &ValidModel, checkpoint: &ResolvedModel) -> PodTemplateSpec {
    template_for(Reach::Cluster, model, checkpoint)
}

/// The Pod of a server whose API is for its own Pod alone, on that port.
pub(crate) fn loopback_pod(model: &ValidModel, checkpoint: &ResolvedModel, port: u16) -> PodSpec {
    template_for(Reach::OwnPod(port), model, checkpoint).spec.unwrap_or_default()
}

fn template_for(reach: Reach, model: &ValidModel, checkpoint: &ResolvedModel) -> PodTemplateSpec {
    let cache_volume = match reach {
        Reach::Cluster => cache::volume,
        Reach::OwnPod(_) => cache::volume_of_sidecar,
    };
    let program = Program {
        container: "server",
        binary: "cllm-server",
        arguments: arguments(reach, model, checkpoint),
        image: &model.image,
        ports: reach.ports(),
        mounts: Mounts {
            workspace: None,
            read: checkpoint.location().claim().into_iter().collect(),
            written: BTreeSet::new(),
            cache: checkpoint.location().remote().map(|_| cache_volume(model)),
            access: access(model, checkpoint).into_iter().collect(),
        },
        resources: model.resources.clone(),
    };
    let mut template = template(&model.spec.pod, &model_labels(&model.owner.name), program);
    if let Some(pod) = &mut template.spec {
        let drain = model.spec.server.drain_seconds;
        pod.termination_grace_period_seconds = Some(i64::from(PRE_STOP_SLEEP_SECONDS + drain + SPARE_SECONDS));
        let seconds = startup_seconds(checkpoint);
        pod.containers.iter_mut().for_each(|container| set_lifecycle(container, reach, may_block(model), seconds));
        if let Some(prompts) = prompts(model) {
            mount_prompts(pod, prompts);
        }
        tolerate_reserved_nodes(model, pod);
    }
    if let (Some(metadata), Some(digest)) = (&mut template.metadata, checkpoint.digest()) {
        metadata.annotations.get_or_insert_default().insert(DIGEST_ANNOTATION.to_owned(), digest.to_owned());
    }
    template
}

fn arguments(reach: Reach, model: &ValidModel, checkpoint: &ResolvedModel) -> Arguments {
    let server = &model.spec.server;
    let gate = model.spec.gates.as_ref().and_then(|gates| Some((gates.min_speedup.as_ref()?, gates.on_failure)));
    let arguments =
        Arguments::default().with("model", checkpoint.location().argument()).with("served-name", model.served_name());
    let arguments = reach
        .listen(arguments)
        .with("metrics-port", METRICS_PORT)
        .with("strategy", model.spec.decoding.strategy.as_str())
        .with("block-size", model.spec.decoding.max_block_size)
        // not where it is the default: images of older versions, which a spec that does not change keeps, do not know it
        .with_optional("adaptive", (!model.spec.decoding.adaptive).then_some(false))
        .with_optional("device", (model.spec.device == Device::Cuda).then_some("cuda"))
        .with_optional("context-length", server.context_length)
        .with("max-concurrent-requests", server.max_concurrent_requests)
        .with("max-queued-requests", server.max_queued_requests)
        .with_optional("max-tokens-per-second", server.max_tokens_per_second)
        .with("drain-seconds", server.drain_seconds)
        .with("termination-message", TERMINATION_MESSAGE_PATH)
        .with_optional("digest", model.spec.model.digest.as_deref().or(checkpoint.digest()))
        .with_optional("min-speedup", gate.map(|(bar, _)| bar))
        .with_optional("on-missed-gate", gate.map(|(_, on_failure)| on_failure.as_str()))
        .with_optional("prompts", prompts(model).map(prompts_path));
    match access(model, checkpoint) {
        Some(access) => access.add_to(arguments.with("cache", CACHE_FOLDER)),
        None => arguments,
    }
}

/// How the checkpoint is reached, if it is downloaded.
fn access<'a>(model: &'a ValidModel, checkpoint: &ResolvedModel) -> Option<MountedAccess<'a>> {
    let access = &model.spec.model.access;
    checkpoint.location().remote().map(|_| MountedAccess { role: Role::Model, access })
}

fn startup_seconds(checkpoint: &ResolvedModel) -> i32 {
    STARTUP_SECONDS + checkpoint.location().remote().map_or(0, |_| DOWNLOAD_SECONDS)
}

/// Nodes are reserved for those who ask for an extended resource by a taint with its name (as the admission plugin
/// ExtendedResourceToleration takes for granted, where a cluster has it).
fn tolerate_reserved_nodes(model: &ValidModel, pod: &mut PodSpec) {
    for resource in model.extended_resources() {
        let tolerations = pod.tolerations.get_or_insert_default();
        if !tolerations.iter().any(|toleration| toleration.key.as_deref() == Some(resource)) {
            tolerations.push(Toleration {
                key: Some(resource.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoSchedule".to_owned()),
                ..Toleration::default()
            });
        }
    }
}

/// A replica that its gate keeps from answering has started all the same: started again, it would only measure again.
fn may_block(model: &ValidModel) -> bool {
    let is_blocking = |gates: &Gates| gates.min_speedup.is_some() && gates.on_failure == GateFailure::Block;
    model.spec.gates.as_ref().is_some_and(is_blocking)
}

fn prompts(model: &ValidModel) -> Option<&PromptsReference> {
    Some(&model.spec.gates.as_ref()?.prompts_from.as_ref()?.config_map_ref)
}

/// The name of the ConfigMap is part of it, so that a replica says with what it measured.
fn prompts_path(PromptsReference { name, key }: &PromptsReference) -> String {
    format!("{PROMPTS_FOLDER}/{name}/{key}")
}

fn mount_prompts(pod: &mut PodSpec, PromptsReference { name, key }: &PromptsReference) {
    pod.volumes.get_or_insert_default().push(Volume {
        name: "prompts".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.clone(),
            items: Some(vec![KeyToPath { key: key.clone(), path: key.clone(), mode: None }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    });
    for container in &mut pod.containers {
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: "prompts".to_owned(),
            mount_path: format!("{PROMPTS_FOLDER}/{name}"),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

fn set_lifecycle(container: &mut Container, reach: Reach, may_block: bool, startup_seconds: i32) {
    // Of a replica that its gate blocks it is enough that it has started; who waits for a sidecar waits for its answers.
    let startup_path = if may_block && reach == Reach::Cluster { "/startupz" } else { "/readyz" };
    let probe = |path: &str, period, failures| probe(reach.probed_port(), path, period, failures);
    container.startup_probe =
        Some(probe(startup_path, STARTUP_PERIOD_SECONDS, startup_seconds / STARTUP_PERIOD_SECONDS));
    container.readiness_probe = Some(probe("/readyz", 5, 2));
    container.liveness_probe = Some(probe("/livez", 10, 6));
    // No endpoint leads to a sidecar, and it ends after those who ask it.
    container.lifecycle = (reach == Reach::Cluster).then(|| Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds: i64::from(PRE_STOP_SLEEP_SECONDS) }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });
}

fn probe(port: &str, path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}
