//! What of a model goes into somebody else's Pod: the server of its replicas as a native sidecar, and what that needs.
//!
//! What the Pod of a replica says for all its containers, the sidecar says for itself: the Pod's own containers are not its business.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, LocalObjectReference, PodSecurityContext, PodSpec, SecurityContext, Toleration,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::model::{ResolvedModel, ValidModel, loopback_pod};
use crate::pod::IMAGE_USER;

/// The name of the sidecar's container.
pub const CONTAINER: &str = "cllm-server";

/// Before the names of its volumes.
const VOLUME_PREFIX: &str = "cllm-";
/// Mounted where the token of the Pod's service account would be: it is not for the sidecar.
const NO_CREDENTIALS: &str = "cllm-no-credentials";
const CREDENTIALS_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Readable by everyone in the only container that mounts it: nothing is known of the Pod's groups.
const SECRET_MODE: i32 = 0o444;

/// What is added to a Pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sidecar {
    pub(super) container: Container,
    pub(super) volumes: Vec<Volume>,
    /// Of nodes that are reserved for what the model needs.
    pub(super) tolerations: Vec<Toleration>,
    pub(super) image_pull_secrets: Vec<LocalObjectReference>,
}

impl Sidecar {
    /// The server of that checkpoint with its API on that port of loopback.
    pub(super) fn new(model: &ValidModel, checkpoint: &ResolvedModel, port: u16) -> Self {
        let pod = loopback_pod(model, checkpoint, port);
        let PodSpec { containers, volumes, tolerations, image_pull_secrets, security_context, .. } = pod;
        let needed = model.extended_resources();
        let is_needed = |toleration: &Toleration| toleration.key.as_deref().is_some_and(|key| needed.contains(key));
        Self {
            container: container(
                containers.into_iter().next().unwrap_or_default(),
                security_context.unwrap_or_default(),
            ),
            volumes: volumes.into_iter().flatten().map(volume).chain([no_credentials()]).collect(),
            tolerations: tolerations.into_iter().flatten().filter(is_needed).collect(),
            image_pull_secrets: image_pull_secrets.unwrap_or_default(),
        }
    }

    /// As the user of its image, where the Pod would make it root.
    pub(super) fn without_root(mut self) -> Self {
        self.container.security_context.get_or_insert_default().run_as_user.get_or_insert(IMAGE_USER);
        self
    }
}

fn container(of_replica: Container, of_pod: PodSecurityContext) -> Container {
    let mounts = of_replica.volume_mounts.into_iter().flatten();
    let mounts = mounts.map(|mount| VolumeMount { name: format!("{VOLUME_PREFIX}{}", mount.name), ..mount });
    let no_credentials = VolumeMount {
        name: NO_CREDENTIALS.to_owned(),
        mount_path: CREDENTIALS_FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        restart_policy: Some("Always".to_owned()),
        volume_mounts: Some(mounts.chain([no_credentials]).collect()),
        security_context: Some(SecurityContext {
            run_as_user: of_pod.run_as_user,
            run_as_group: of_pod.run_as_group,
            run_as_non_root: of_pod.run_as_non_root,
            seccomp_profile: of_pod.seccomp_profile,
            app_armor_profile: of_pod.app_armor_profile,
            se_linux_options: of_pod.se_linux_options,
            ..of_replica.security_context.unwrap_or_default()
        }),
        ..of_replica
    }
}

fn volume(mut of_replica: Volume) -> Volume {
    of_replica.name = format!("{VOLUME_PREFIX}{}", of_replica.name);
    if let Some(secret) = &mut of_replica.secret {
        secret.default_mode = Some(SECRET_MODE);
    }
    of_replica
}

fn no_credentials() -> Volume {
    Volume {
        name: NO_CREDENTIALS.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity("1Mi".to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}
