//! The replicas: how they start, how it is known that they answer, how they are replaced, how they stop.

use std::collections::BTreeSet;

use cllm_crds::RolloutStrategy;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Container, HTTPGetAction, Lifecycle, LifecycleHandler, PodTemplateSpec, Probe, SleepAction,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::render::child_name;
use crate::model::{ResolvedModel, ValidModel};
use crate::naming::{DIGEST_ANNOTATION, model_labels, selector_labels};
use crate::pod::{Arguments, HTTP_PORT, METRICS_PORT, Mounts, Program, template};

/// Endpoints propagate before the server stops listening.
const PRE_STOP_SLEEP_SECONDS: u32 = 10;
/// Between the end of the drain and the kill.
const SPARE_SECONDS: u32 = 5;
const STARTUP_PERIOD_SECONDS: i32 = 5;
/// A large checkpoint on a slow volume takes this long to load.
const STARTUP_SECONDS: i32 = 3600;

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
            progress_deadline_seconds: Some(STARTUP_SECONDS + 600),
            template: pod_template(model, checkpoint),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn strategy(model: &ValidModel) -> DeploymentStrategy {
    let in_place = match model.spec.rollout.strategy {
        // With one GPU a surge would wait forever for a second one.
        RolloutStrategy::Auto => model.needs_extended_resource(),
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

fn pod_template(model: &ValidModel, checkpoint: &ResolvedModel) -> PodTemplateSpec {
    let program = Program {
        container: "server",
        binary: "cllm-server",
        arguments: arguments(model, checkpoint),
        image: &model.image,
        ports: &[("http", HTTP_PORT), ("metrics", METRICS_PORT)],
        mounts: Mounts {
            workspace: None,
            read: checkpoint.location().claim().into_iter().collect(),
            written: BTreeSet::new(),
        },
        resources: model.resources.clone(),
    };
    let mut template = template(&model.spec.pod, &model_labels(&model.owner.name), program);
    if let Some(pod) = &mut template.spec {
        let drain = model.spec.server.drain_seconds;
        pod.termination_grace_period_seconds = Some(i64::from(PRE_STOP_SLEEP_SECONDS + drain + SPARE_SECONDS));
        pod.containers.iter_mut().for_each(set_lifecycle);
    }
    if let (Some(metadata), Some(digest)) = (&mut template.metadata, checkpoint.digest()) {
        metadata.annotations.get_or_insert_default().insert(DIGEST_ANNOTATION.to_owned(), digest.to_owned());
    }
    template
}

fn arguments(model: &ValidModel, checkpoint: &ResolvedModel) -> Arguments {
    let server = &model.spec.server;
    Arguments::default()
        .with("model", checkpoint.location().container_path())
        .with("served-name", model.served_name())
        .with("host", "0.0.0.0")
        .with("http-port", HTTP_PORT)
        .with("metrics-port", METRICS_PORT)
        .with("strategy", model.spec.decoding.strategy.as_str())
        .with("block-size", model.spec.decoding.max_block_size)
        .with_optional("context-length", server.context_length)
        .with("max-concurrent-requests", server.max_concurrent_requests)
        .with("max-queued-requests", server.max_queued_requests)
        .with("drain-seconds", server.drain_seconds)
}

fn set_lifecycle(container: &mut Container) {
    container.startup_probe = Some(probe("/readyz", STARTUP_PERIOD_SECONDS, STARTUP_SECONDS / STARTUP_PERIOD_SECONDS));
    container.readiness_probe = Some(probe("/readyz", 5, 2));
    container.liveness_probe = Some(probe("/livez", 10, 6));
    container.lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds: i64::from(PRE_STOP_SLEEP_SECONDS) }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}
