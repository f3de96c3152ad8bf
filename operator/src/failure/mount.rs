//! Volumes that cannot be attached or mounted: only Events tell, and only those of Pods that wait for their containers are looked at.

use cllm_crds::Failure;
use cllm_crds::conditions::reasons;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::volume::source;
use super::{PATIENCE_SECONDS, detail, failure, is_older, phase, placed};

/// A kubelet mounts before it pulls: once it does that, the volumes are there.
const AFTER_MOUNTING: [&str; 4] = ["Pulling", "Pulled", "Created", "Started"];

/// Whether a Pod has a node and no container for so long that its Events are worth a look.
pub fn waits_for_volumes(pod: &Pod, now: Timestamp) -> bool {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let is_creating = |status: &ContainerStatus| {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        let word = waiting.and_then(|waiting| waiting.reason.as_deref());
        word.is_some_and(|word| ["ContainerCreating", "PodInitializing"].contains(&word))
    };
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    let mut statuses =
        statuses.chain(status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten());
    has_node
        && phase(pod) == "Pending"
        && pod.metadata.deletion_timestamp.is_none()
        && statuses.all(is_creating)
        && is_older(placed(pod).as_ref(), PATIENCE_SECONDS, now)
}

/// Why the volumes of the Pod are not there.
pub(super) fn failed(pod: &Pod, events: &[Event], now: Timestamp) -> Option<Failure> {
    if !waits_for_volumes(pod, now) {
        return None;
    }
    let of_pod = || events.iter().filter(|event| event.involved_object.uid == pod.metadata.uid);
    let is = |event: &Event, words: &[&str]| event.reason.as_deref().is_some_and(|reason| words.contains(&reason));
    let mounted = of_pod().filter(|event| is(event, &AFTER_MOUNTING)).filter_map(last_seen).max();
    let complaint = of_pod()
        .filter(|event| is(event, &["FailedMount", "FailedAttachVolume"]))
        .filter(|event| last_seen(event) > mounted)
        // That it timed out says less than why.
        .max_by_key(|event| (!is_timeout(event), first_seen(event)))?;
    let said = complaint.message.as_deref().unwrap_or_default();
    let message = format!("A volume is not there: {}{}. {}.", detail(said), meant(pod, said), next_step(said));
    Some(failure(pod, reasons::MOUNT_FAILED, message, first_seen(complaint)))
}

/// The kubelet tells which key is missing, but not of what.
fn meant(pod: &Pod, said: &str) -> String {
    let volume = said.split_once("for volume \"").and_then(|(_, rest)| rest.split('"').next());
    let source = volume.and_then(|volume| source(pod, volume)).filter(|_| said.contains("non-existent"));
    source.map(|source| format!(" ({source})")).unwrap_or_default()
}

fn next_step(said: &str) -> &'static str {
    if said.contains("Multi-Attach") {
        "Wait until the other Pod is gone, or use a claim with ReadWriteMany"
    } else if said.contains("not found") || said.contains("non-existent") {
        "Create what is missing, or correct its name in the spec"
    } else {
        "Look at the claim and its volume (kubectl describe pvc)"
    }
}

fn is_timeout(event: &Event) -> bool {
    event.message.as_deref().is_some_and(|message| message.contains("timed out waiting for the condition"))
}

pub(super) fn first_seen(event: &Event) -> Option<Time> {
    event.first_timestamp.clone().or_else(|| event.event_time.as_ref().map(|time| Time(time.0)))
}

pub(super) fn last_seen(event: &Event) -> Option<Time> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| Time(time.0));
    series.or_else(|| event.last_timestamp.clone()).or_else(|| first_seen(event))
}
