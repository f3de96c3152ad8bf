//! Pods that asked for a sidecar and run without. Containers cannot be added to a Pod that exists, so that a person has to know.

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use crate::conditions::shortened;
use crate::events::Notice;
use crate::injection::sidecar::CONTAINER;
use crate::naming::{INJECT_LABEL, INJECTION_LABEL, REFUSAL_ANNOTATION};

/// The reason of the Events.
pub const REASON: &str = "SidecarMissing";

/// A Pod that asked for a sidecar and runs without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The model that it asked for.
    pub model: String,
    pod: String,
    why: String,
}

/// What there is to tell of a Pod; nothing of one that has its sidecar, is about to go, or did well without.
pub fn missed(pod: &Pod) -> Option<Missed> {
    let model = pod.labels().get(INJECT_LABEL)?.clone();
    let succeeded = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Succeeded"));
    if has_sidecar(pod) || succeeded || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let refusal = pod.annotations().get(REFUSAL_ANNOTATION);
    let why = refusal.map_or_else(|| nobody_was_asked(pod), |why| format!("{}.", why.trim_end_matches('.')));
    Some(Missed { model, pod: pod.name_any(), why })
}

impl Missed {
    /// For the Pod.
    pub fn of_pod(&self) -> Notice {
        let Self { model, pod: _, why } = self;
        notice(format!(
            "This Pod runs without the sidecar of CllmModel {model}: {why} Then delete the Pod, so that its controller makes it again."
        ))
    }

    /// For the model, which may have many of them.
    pub fn of_model(&self) -> Notice {
        let Self { model, pod, why } = self;
        notice(format!(
            "Pods with the label {INJECT_LABEL}={model} run without the sidecar, {pod} among them: {why} Then delete them, so that their \
             controllers make them again."
        ))
    }
}

fn notice(note: String) -> Notice {
    Notice { is_warning: true, reason: REASON.to_owned(), action: "Inject", note: shortened(note) }
}

fn has_sidecar(pod: &Pod) -> bool {
    let is_ours =
        |container: &Container| container.name == CONTAINER && container.restart_policy.as_deref() == Some("Always");
    pod.spec.as_ref().is_some_and(|spec| spec.init_containers.iter().flatten().any(is_ours))
}

fn nobody_was_asked(pod: &Pod) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    format!(
        "nobody was asked when it was made. See that the namespace has the label that allows it (kubectl label namespace {namespace} \
         {INJECTION_LABEL}=enabled), that the operator runs, and that its chart has injection.enabled."
    )
}
