//! Which Secret or ConfigMap is meant by a path in a container, or by the volume of a Pod: people know those by their names.

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::container::container;

/// The text with the names of Secrets and ConfigMaps in place of the paths at which they are mounted.
pub(super) fn with_names(pod: &Pod, container_name: &str, text: &str) -> String {
    let mounts = container(pod, container_name).and_then(|container| container.volume_mounts.as_ref());
    mounts.into_iter().flatten().fold(text.to_owned(), |text, mount| match source(pod, &mount.name) {
        Some(source) => {
            let path = mount.mount_path.trim_end_matches('/');
            text.replace(&format!("{path}/"), &format!("{source}, key ")).replace(path, &source)
        }
        None => text,
    })
}

/// `Secret NAME` or `ConfigMap NAME`; `None` where the volume is neither.
pub(super) fn source(pod: &Pod, volume: &str) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let Volume { secret, config_map, .. } = volumes.iter().find(|other| other.name == volume)?;
    let secret = secret.as_ref().and_then(|secret| Some(format!("Secret {}", secret.secret_name.as_ref()?)));
    secret.or_else(|| config_map.as_ref().map(|map| format!("ConfigMap {}", map.name)))
}
