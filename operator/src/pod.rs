//! What all Pods of cllm have in common: the restricted security standard, their volumes, their ports.

use std::borrow::Cow;
use std::collections::BTreeSet;

use cllm_crds::PodOptions;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::access::MountedAccess;
use crate::location::{CACHE_FOLDER, CLAIMS_FOLDER, WORKSPACE_FOLDER};
use crate::naming::Labels;

/// The port of the OpenAI API.
pub const HTTP_PORT: i32 = 8000;
/// The port of `/metrics` and `/status`.
pub const METRICS_PORT: i32 = 9090;
/// Where a container writes its last words.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// Whom the images run as.
pub(crate) const IMAGE_USER: i64 = 65532;
/// The group that owns the files of volumes.
const FILE_GROUP: i64 = IMAGE_USER;
const TEMPORARY_SPACE: &str = "1Gi";

/// The arguments of a container: `--key=value`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments(pub(crate) Vec<String>);

impl Arguments {
    /// With a subcommand first.
    pub(crate) fn subcommand(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    pub(crate) fn with(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.0.push(format!("--{key}={value}"));
        self
    }

    /// With arguments as a person wrote them.
    pub(crate) fn and(mut self, more: &[String]) -> Self {
        self.0.extend_from_slice(more);
        self
    }

    pub(crate) fn with_optional(self, key: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

/// The volumes of a Pod: claims at `/claims/CLAIM`, the workspace at `/workspace`, `/tmp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mounts<'a> {
    /// The claim at `/workspace`.
    pub(crate) workspace: Option<&'a str>,
    /// Claims that are read.
    pub(crate) read: BTreeSet<&'a str>,
    /// Claims that are written.
    pub(crate) written: BTreeSet<&'a str>,
    /// Where downloads are kept, at `/cache`.
    pub(crate) cache: Option<CacheVolume<'a>>,
    /// By which way remote places are reached.
    pub(crate) access: Vec<MountedAccess<'a>>,
}

/// Where downloads are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CacheVolume<'a> {
    /// In a claim that others may use too.
    Claim(Cow<'a, str>),
    /// With the Pod.
    Pod,
}

impl Mounts<'_> {
    fn volumes(&self) -> Vec<Volume> {
        let mut volumes: Vec<_> = self.claims().map(|(volume, claim)| claim_volume(&volume, claim)).collect();
        if let Some(claim) = self.workspace {
            volumes.push(claim_volume("workspace", claim));
        }
        volumes.extend(self.cache.as_ref().map(cache_volume));
        volumes.extend(self.access.iter().flat_map(MountedAccess::volumes));
        volumes.push(Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(TEMPORARY_SPACE.to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        });
        volumes
    }

    fn volume_mounts(&self) -> Vec<VolumeMount> {
        let all = self.read.union(&self.written);
        let mut mounts: Vec<_> = all
            .map(|claim| VolumeMount {
                name: self.volume_of(claim),
                mount_path: format!("{CLAIMS_FOLDER}/{claim}"),
                read_only: (!self.written.contains(claim)).then_some(true),
                ..VolumeMount::default()
            })
            .collect();
        if self.workspace.is_some() {
            mounts.push(mount("workspace", WORKSPACE_FOLDER));
        }
        mounts.extend(self.cache.as_ref().map(|_| mount("cache", CACHE_FOLDER)));
        mounts.extend(self.access.iter().flat_map(MountedAccess::mounts));
        mounts.push(mount("tmp", "/tmp"));
        mounts
    }

    /// Claims other than the workspace with the names of their volumes (a claim may be called what a volume may not).
    fn claims(&self) -> impl Iterator<Item = (String, &str)> {
        let all = self.read.union(&self.written).copied().filter(|claim| Some(*claim) != self.workspace);
        all.enumerate().map(|(index, claim)| (format!("claim-{index}"), claim))
    }

    fn volume_of(&self, claim: &str) -> String {
        self.claims().find(|(_, other)| *other == claim).map_or_else(|| "workspace".to_owned(), |(volume, _)| volume)
    }
}

fn cache_volume(cache: &CacheVolume<'_>) -> Volume {
    match cache {
        CacheVolume::Claim(claim) => claim_volume("cache", claim),
        CacheVolume::Pod => {
            Volume { name: "cache".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
        }
    }
}

fn claim_volume(name: &str, claim: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// What one Pod runs.
pub(crate) struct Program<'a> {
    /// The name of its container.
    pub(crate) container: &'a str,
    /// The binary, on the image's PATH.
    pub(crate) binary: &'a str,
    pub(crate) arguments: Arguments,
    pub(crate) image: &'a str,
    /// Ports by name.
    pub(crate) ports: &'a [(&'a str, i32)],
    pub(crate) mounts: Mounts<'a>,
    pub(crate) resources: Option<ResourceRequirements>,
}

/// The Pod template; probes, restart policy and grace are the caller's.
pub(crate) fn template(options: &PodOptions, labels: &Labels, program: Program<'_>) -> PodTemplateSpec {
    let volumes = program.mounts.volumes();
    let pull_secrets = &options.image_pull_secrets;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(options.pod_labels.clone().into_iter().chain(labels.clone()).collect()),
            annotations: Some(options.pod_annotations.clone()).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container(options, program)],
            volumes: Some(volumes),
            image_pull_secrets: Some(pull_secrets.clone()).filter(|secrets| !secrets.is_empty()),
            service_account_name: options.service_account_name.clone(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(pod_security_context(options.pod_security_context.as_ref())),
            node_selector: Some(options.node_selector.clone()).filter(|selector| !selector.is_empty()),
            tolerations: Some(options.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
            affinity: options.affinity.clone(),
            topology_spread_constraints: Some(options.topology_spread_constraints.clone())
                .filter(|list| !list.is_empty()),
            scheduler_name: options.scheduler_name.clone(),
            runtime_class_name: options.runtime_class_name.clone(),
            priority_class_name: options.priority_class_name.clone(),
            ..PodSpec::default()
        }),
    }
}

fn container(options: &PodOptions, program: Program<'_>) -> Container {
    let Program { container, binary, arguments, image, ports, mounts, resources } = program;
    Container {
        name: container.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: options.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        command: Some(vec![binary.to_owned()]),
        args: Some([arguments.0, options.extra_args.clone()].concat()),
        env: Some(options.env.clone()).filter(|variables| !variables.is_empty()),
        ports: Some(ports.iter().map(|&(name, port)| container_port(name, port)).collect()),
        resources,
        volume_mounts: Some(mounts.volume_mounts()),
        security_context: Some(container_security_context()),
        termination_message_path: Some(TERMINATION_MESSAGE_PATH.to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn container_port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// What conforms to "restricted", with the fields that the user sets. Some clusters choose the group themselves, so it can be left out.
fn pod_security_context(theirs: Option<&PodSecurityContext>) -> PodSecurityContext {
    let ours = || PodSecurityContext {
        fs_group: Some(FILE_GROUP),
        // Large volumes are not walked at every start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        ..PodSecurityContext::default()
    };
    let theirs = theirs.cloned().unwrap_or_else(ours);
    PodSecurityContext {
        run_as_non_root: theirs.run_as_non_root.or(Some(true)),
        seccomp_profile: theirs
            .seccomp_profile
            .or_else(|| Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None })),
        ..theirs
    }
}

fn container_security_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}
