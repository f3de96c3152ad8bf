//! Which Pods count, and where their pages are.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::pages::{self, METRICS_PORT_NAME};

/// Whether a Pod counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is asked.
    Asked(Target),
    /// It is about to end, or has ended.
    Ending,
    /// It does not answer requests (yet).
    NotReady,
    /// It is no replica of ours: it has no port `metrics`, or no address.
    WithoutPage,
}

/// A Pod that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Of the Pod, and so of no other one, before or after.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Where its metrics page is.
    pub url: String,
}

/// Whether that Pod counts.
pub fn standing(pod: &Pod) -> Standing {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() || ["Succeeded", "Failed"].contains(&phase) {
        return Standing::Ending;
    }
    let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if phase != "Running" || !is_ready {
        return Standing::NotReady;
    }
    let target = || {
        let url = format!("http://{}:{}/metrics", pages::address(pod)?, metrics_port(pod)?);
        Some(Target { uid: pod.uid()?, name: pod.name_any(), url })
    };
    target().map_or(Standing::WithoutPage, Standing::Asked)
}

fn metrics_port(pod: &Pod) -> Option<i32> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some(METRICS_PORT_NAME)).map(|port| port.container_port)
}
