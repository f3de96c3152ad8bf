//! From a Pod template to the command of a child process: mounts become folders, ports become free ports.
//!
//! Pure: nothing is looked up, created or started here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec};

use super::probe::{Probe, Probes};

/// Where the kubelet looks for last words unless the container says otherwise.
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// What stands on this machine for what the Pod gets from a cluster.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Folder of each persistent volume claim.
    pub claims: BTreeMap<String, PathBuf>,
    /// Folder for the emptyDir volumes of this Pod.
    pub scratch: PathBuf,
    /// Local port of each named container port.
    pub ports: BTreeMap<String, u16>,
    /// File for the termination message.
    pub termination_message: PathBuf,
    /// Of a Pod of an Indexed Job.
    pub completion_index: Option<u32>,
    /// Name and unique identifier of the Pod, for fields that refer to them.
    pub pod_name: String,
    /// See `pod_name`.
    pub pod_uid: String,
}

/// A child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCommand {
    /// Name of the binary, without folder.
    pub program: String,
    /// As the container's, with local folders and ports.
    pub args: Vec<String>,
    /// Added to the environment of this process.
    pub env: BTreeMap<String, String>,
    /// Folders that must exist before the start.
    pub folders: Vec<Folder>,
    /// What decides whether it has started, is ready, is alive.
    pub probes: Probes,
}

/// A folder that a process finds in its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// On this machine.
    pub path: PathBuf,
    /// The claim that it stands for; absent for scratch space.
    pub claim: Option<String>,
    /// The process only reads it.
    pub read_only: bool,
}

/// Why a Pod cannot run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// The template has no single container with one program.
    #[error("the Pod of {pod} has {found}; local mode runs Pods with one container whose command is one program")]
    Shape {
        /// Its name.
        pod: String,
        /// What it has.
        found: String,
    },
    /// A volume that has no counterpart here.
    #[error("the Pod of {pod} mounts the volume '{volume}', which is neither a persistentVolumeClaim nor an emptyDir; local mode has only these, so leave it out of the file that you run with `cllm up`")]
    Volume {
        /// The Pod.
        pod: String,
        /// The volume.
        volume: String,
    },
    /// A variable whose value only a cluster knows.
    #[error("the variable {variable} of the Pod of {pod} takes its value from the cluster; local mode needs a plain `value`")]
    Variable {
        /// The Pod.
        pod: String,
        /// The variable.
        variable: String,
    },
    /// A claim without a folder.
    #[error("no folder stands for the claim '{claim}' of the Pod of {pod}; name one with --claim {claim}=DIR")]
    Claim {
        /// The Pod.
        pod: String,
        /// The claim.
        claim: String,
    },
    /// A probe of a kind or port that is not known here.
    #[error("the {probe} probe of the Pod of {pod} is not an HTTP GET on one of its named ports")]
    Probe {
        /// The Pod.
        pod: String,
        /// Which probe.
        probe: &'static str,
    },
}

/// The names of the claims that a Pod mounts.
pub fn claims(template: &PodTemplateSpec) -> Vec<String> {
    let volumes = template.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())).collect()
}

/// The names of the ports of a Pod.
pub fn ports(template: &PodTemplateSpec) -> Vec<String> {
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    containers.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| port.name.clone()).collect()
}

/// The command of the one container of a Pod.
pub fn translate(template: &PodTemplateSpec, places: &Places) -> Result<LocalCommand, TranslateError> {
    let pod = places.pod_name.as_str();
    let shape = |found: &str| TranslateError::Shape { pod: pod.to_owned(), found: found.to_owned() };
    let spec = template.spec.as_ref().ok_or_else(|| shape("no spec"))?;
    if spec.init_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        return Err(shape("init containers"));
    }
    let [container] = spec.containers.as_slice() else {
        return Err(shape(&format!("{} containers", spec.containers.len())));
    };
    let command = container.command.as_deref().unwrap_or_default();
    let [program] = command else {
        return Err(shape(&format!("a command of {} words", command.len())));
    };
    let mounts = mounts(spec, container, places)?;
    let args = container.args.iter().flatten().map(|arg| argument(arg, container, &mounts, places)).collect();
    let folders = mounts.into_iter().map(|mount| mount.folder).collect();
    Ok(LocalCommand {
        program: program.clone(),
        args,
        env: environment(container, places)?,
        folders,
        probes: probes(container, places)?,
    })
}

struct Mount {
    path: String,
    folder: Folder,
}

/// Longest mount path first, so that the first match is the right one.
fn mounts(spec: &PodSpec, container: &Container, places: &Places) -> Result<Vec<Mount>, TranslateError> {
    let pod = || places.pod_name.clone();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let refused = || TranslateError::Volume { pod: pod(), volume: mount.name.clone() };
        let volume =
            spec.volumes.iter().flatten().find(|volume| volume.name == mount.name).ok_or_else(refused)?;
        let (root, claim) = if let Some(source) = &volume.persistent_volume_claim {
            let claim = source.claim_name.clone();
            let folder = places
                .claims
                .get(&claim)
                .ok_or_else(|| TranslateError::Claim { pod: pod(), claim: claim.clone() })?;
            (folder.clone(), Some(claim))
        } else if volume.empty_dir.is_some() {
            (places.scratch.join(&volume.name), None)
        } else {
            return Err(refused());
        };
        let path = mount.sub_path.as_ref().map_or(root.clone(), |sub_path| root.join(sub_path));
        let folder = Folder { path, claim, read_only: mount.read_only == Some(true) };
        mounts.push(Mount { path: mount.mount_path.trim_end_matches('/').to_owned(), folder });
    }
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.path.len()));
    Ok(mounts)
}

fn argument(arg: &str, container: &Container, mounts: &[Mount], places: &Places) -> String {
    let Some((key, value)) = arg.split_once('=') else {
        return arg.to_owned();
    };
    if value == container.termination_message_path.as_deref().unwrap_or(TERMINATION_MESSAGE_PATH) {
        return format!("{key}={}", places.termination_message.display());
    }
    if key == "--host" {
        return format!("{key}=127.0.0.1");
    }
    if let Some(port) = replaced_port(key, value, container, places) {
        return format!("{key}={port}");
    }
    match mounts.iter().find_map(|mount| replaced_path(value, &mount.path, &mount.folder.path)) {
        Some(path) => format!("{key}={path}"),
        None => arg.to_owned(),
    }
}

fn replaced_port(key: &str, value: &str, container: &Container, places: &Places) -> Option<u16> {
    let name = key.strip_prefix("--")?.strip_suffix("-port")?;
    let declared = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name))?;
    (declared.container_port.to_string() == value).then(|| places.ports.get(name).copied())?
}

fn replaced_path(value: &str, mount_path: &str, folder: &Path) -> Option<String> {
    let rest = value.strip_prefix(mount_path)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", folder.display()))
}

fn environment(container: &Container, places: &Places) -> Result<BTreeMap<String, String>, TranslateError> {
    let mut environment = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = value_of(variable, places).ok_or_else(|| TranslateError::Variable {
            pod: places.pod_name.clone(),
            variable: variable.name.clone(),
        })?;
        environment.insert(variable.name.clone(), value);
    }
    if let Some(index) = places.completion_index {
        environment.insert("JOB_COMPLETION_INDEX".to_owned(), index.to_string());
    }
    Ok(environment)
}

fn value_of(variable: &EnvVar, places: &Places) -> Option<String> {
    let Some(source) = &variable.value_from else {
        return Some(variable.value.clone().unwrap_or_default());
    };
    match source.field_ref.as_ref()?.field_path.as_str() {
        "metadata.name" => Some(places.pod_name.clone()),
        "metadata.uid" => Some(places.pod_uid.clone()),
        "metadata.annotations['batch.kubernetes.io/job-completion-index']" => {
            places.completion_index.map(|index| index.to_string())
        }
        _ => None,
    }
}

fn probes(container: &Container, places: &Places) -> Result<Probes, TranslateError> {
    let one = |name: &'static str, probe: Option<&k8s_openapi::api::core::v1::Probe>| {
        probe.map(|probe| Probe::new(probe, container, &places.ports)).transpose().map_err(|()| {
            TranslateError::Probe { pod: places.pod_name.clone(), probe: name }
        })
    };
    Ok(Probes {
        startup: one("startup", container.startup_probe.as_ref())?,
        readiness: one("readiness", container.readiness_probe.as_ref())?,
        liveness: one("liveness", container.liveness_probe.as_ref())?,
    })
}
