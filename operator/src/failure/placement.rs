//! Failures of the place: no node takes the Pod, the node throws it out, or the node is gone.

use cllm_crds::Failure;
use cllm_crds::conditions::reasons;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::{PATIENCE_SECONDS, condition, created, detail, failure, is_older, phase};

/// A Pod that its kubelet no longer speaks for.
///
/// Nodes are not read: in one namespace the operator may not, and the Pod tells. Its kubelet ends it before its deletion time; the node
/// controller, and only it, takes readiness away from a Pod whose containers are ready.
pub(super) fn lost(pod: &Pod, now: Timestamp) -> Option<Failure> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    if ["Succeeded", "Failed"].contains(&phase(pod)) {
        return None;
    }
    let deletion = pod.metadata.deletion_timestamp.as_ref();
    let is_overdue = is_older(deletion, PATIENCE_SECONDS, now);
    let is_unknown =
        phase(pod) == "Unknown" || pod.status.as_ref()?.reason.as_deref().is_some_and(|reason| reason == "NodeLost");
    let unready = unready_with_ready_containers(pod);
    if !is_overdue && !is_unknown && unready.is_none() {
        return None;
    }
    let time = if is_overdue { deletion.cloned() } else { unready.or_else(|| created(pod)) };
    let message = format!(
        "Node {node} does not answer. A dead node holds its Pods until it comes back, its Node object is deleted, or, once it is surely \
         off, it is tainted: kubectl taint node {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute."
    );
    Some(failure(pod, reasons::NODE_LOST, message, time))
}

fn unready_with_ready_containers(pod: &Pod) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    let has_gates = pod.spec.as_ref()?.readiness_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "False")?;
    let containers_are = condition(pod, "ContainersReady").is_some_and(|condition| condition.status == "True");
    (containers_are && !has_gates && phase(pod) == "Running").then(|| ready.last_transition_time.clone()).flatten()
}

/// No node fits. A Pod that is held back on purpose (scheduling gates, as Kueue sets them) waits, and has not failed.
pub(super) fn unschedulable(pod: &Pod, now: Timestamp) -> Option<Failure> {
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
    let since = scheduled.last_transition_time.as_ref();
    if scheduled.reason.as_deref() != Some("Unschedulable") || !is_older(since, PATIENCE_SECONDS, now) {
        return None;
    }
    let said = detail(scheduled.message.as_deref().unwrap_or("the scheduler gives no reason"));
    // In the words of schedulers before and since 1.33.
    let is_volume =
        ["volume node affinity conflict", "PersistentVolume's node affinity"].iter().any(|words| said.contains(words));
    let next = if is_volume {
        "A volume of it is on other nodes only: use a claim with ReadWriteMany, or s3://, or let the Pods run on the volume's node"
    } else {
        "Add such a node, free one, or change resources, nodeSelector, tolerations or affinity in the spec"
    };
    let message = format!("No node takes it: {said}. {next}.");
    Some(failure(pod, reasons::UNSCHEDULABLE, message, since.cloned()))
}

/// A Pod that ended because of its node, not of its containers.
pub(super) fn ended(pod: &Pod) -> Option<Failure> {
    let status = pod.status.as_ref()?;
    let disruption = condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True");
    let cause = status.reason.as_deref().or_else(|| disruption?.reason.as_deref())?;
    let said = status.message.as_deref().or_else(|| disruption?.message.as_deref()).unwrap_or(cause);
    let (reason, next) = match cause {
        "Evicted" | "TerminationByKubelet" => {
            (reasons::EVICTED, "Give it more in resources.requests, or free the node")
        }
        "PreemptionByScheduler" | "Preempting" | "Preempted" => {
            (reasons::EVICTED, "It makes room for more important Pods; raise priorityClassName, or add a node")
        }
        "DeletionByTaintManager" | "DeletionByPodGC" | "EvictionByEvictionAPI" | "Terminated" | "NodeShutdown" => {
            (reasons::EVICTED, "Its node is being emptied or went away; another node takes over")
        }
        // The deadline is that of the Job, and the Job says so.
        "DeadlineExceeded" => return None,
        _ => (
            reasons::REJECTED_BY_NODE,
            "Look at the node (kubectl describe node), or keep Pods off it with nodeSelector",
        ),
    };
    let time = disruption.and_then(|condition| condition.last_transition_time.clone());
    let time = time.or_else(|| super::container::finished(pod)).or_else(|| status.start_time.clone());
    let message = format!("{cause}: {}. {next}.", detail(said));
    Some(failure(pod, reason, message, time))
}
