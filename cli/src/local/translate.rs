//! From a Pod template to the command of a child process: mounts become folders, ports become free ports.
//!
//! Pure: nothing is looked up, created or started here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec, Volume};

use super::probe::{Probe, Probes};

/// Where the kubelet looks for last words unless the container says otherwise.
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// What stands on this machine for what the Pod gets from a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// Folder of each persistent volume claim.
    pub claims: BTreeMap<String, PathBuf>,
    /// Folders of Secrets and `ConfigMaps`.
    pub objects: MountedObjects,
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

/// Which folder of this machine stands for a Secret or a `ConfigMap`.
#[derive(Clone, Debug, Default)]
pub(super) struct MountedObjects {
    secrets: BTreeMap<String, PathBuf>,
    config_maps: BTreeMap<String, PathBuf>,
}

impl MountedObjects {
    /// As the command line names them.
    pub(super) fn new(secrets: &[(String, PathBuf)], config_maps: &[(String, PathBuf)]) -> Self {
        let absolute = |(name, folder): &(String, PathBuf)| {
            (name.clone(), std::path::absolute(folder).unwrap_or_else(|_| folder.clone()))
        };
        Self {
            secrets: secrets.iter().map(absolute).collect(),
            config_maps: config_maps.iter().map(absolute).collect(),
        }
    }
}

/// A child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalCommand {
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
pub(super) struct Folder {
    /// On this machine.
    pub path: PathBuf,
    /// The claim that it stands for; absent for scratch space.
    pub claim: Option<String>,
    /// The process only reads it.
    pub read_only: bool,
}

/// Why a Pod cannot run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TranslateError {
    /// The template has no single container with one program.
    #[error("the Pod of {pod} has {found}; local mode runs Pods with one container whose command is one program")]
    Shape {
        /// Its name.
        pod: String,
        /// What it has.
        found: String,
    },
    /// A volume that has no counterpart here.
    #[error(
        "the Pod of {pod} mounts the volume '{volume}', which is no persistentVolumeClaim, emptyDir, Secret or ConfigMap; local mode has only these, so leave it out of the file that you run with `cllm up`"
    )]
    Volume {
        /// The Pod.
        pod: String,
        /// The volume.
        volume: String,
    },
    /// A Secret or `ConfigMap` without a folder.
    #[error(
        "no folder stands for the {kind} '{name}' of the Pod of {pod}: put each of its keys into a file of that name in a folder, and name the folder with --{flag} {name}=DIR"
    )]
    Object {
        /// The Pod.
        pod: String,
        /// Secret or `ConfigMap`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The flag.
        flag: &'static str,
    },
    /// A variable whose value only a cluster knows.
    #[error(
        "the variable {variable} of the Pod of {pod} takes its value from the cluster; local mode needs a plain `value`"
    )]
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
pub(super) fn claims(template: &PodTemplateSpec) -> Vec<String> {
    let volumes = template.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())).collect()
}

/// The names of the ports of a Pod.
pub(super) fn ports(template: &PodTemplateSpec) -> Vec<String> {
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    containers.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| port.name.clone()).collect()
}

/// The command of the one container of a Pod.
pub(super) fn translate(template: &PodTemplateSpec, places: &Places) -> Result<LocalCommand, TranslateError> {
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
        let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name).ok_or_else(refused)?;
        let (root, claim) = if let Some(source) = &volume.persistent_volume_claim {
            let claim = source.claim_name.clone();
            let folder =
                places.claims.get(&claim).ok_or_else(|| TranslateError::Claim { pod: pod(), claim: claim.clone() })?;
            (folder.clone(), Some(claim))
        } else if volume.empty_dir.is_some() {
            (places.scratch.join(&volume.name), None)
        } else if let Some((kind, flag, name, folders)) = object(volume, places) {
            let folder = folders.get(name).cloned();
            (folder.ok_or_else(|| TranslateError::Object { pod: pod(), kind, name: name.to_owned(), flag })?, None)
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

/// The Secret or `ConfigMap` of a volume, with the folders among which it must be.
fn object<'a>(
    volume: &'a Volume,
    places: &'a Places,
) -> Option<(&'static str, &'static str, &'a str, &'a BTreeMap<String, PathBuf>)> {
    if let Some(secret) = &volume.secret {
        return Some(("Secret", "secret", secret.secret_name.as_deref()?, &places.objects.secrets));
    }
    let config_map = volume.config_map.as_ref()?;
    Some(("ConfigMap", "config-map", &config_map.name, &places.objects.config_maps))
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
        probe
            .map(|probe| Probe::new(probe, container, &places.ports))
            .transpose()
            .map_err(|()| TranslateError::Probe { pod: places.pod_name.clone(), probe: name })
    };
    Ok(Probes {
        startup: one("startup", container.startup_probe.as_ref())?,
        readiness: one("readiness", container.readiness_probe.as_ref())?,
        liveness: one("liveness", container.liveness_probe.as_ref())?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn template(extra: &Value) -> PodTemplateSpec {
        let mut value = json!({"spec": {
            "containers": [{
                "name": "trainer",
                "command": ["cllm-trainer"],
                "args": [],
                "ports": [{"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 9090}],
                "volumeMounts": [
                    {"name": "data", "mountPath": "/claims/data", "readOnly": true},
                    {"name": "other", "mountPath": "/claims/data-2"},
                    {"name": "workspace", "mountPath": "/workspace"},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "other", "persistentVolumeClaim": {"claimName": "data-2"}},
                {"name": "workspace", "persistentVolumeClaim": {"claimName": "shop-workspace"}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "credentials-model", "secret": {"secretName": "hub"}},
                {"name": "credentials-output", "secret": {"secretName": "store"}},
                {"name": "certificates-model", "configMap": {"name": "authorities"}},
            ],
        }});
        let container = value.pointer_mut("/spec/containers/0").and_then(Value::as_object_mut).unwrap();
        container.extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn places() -> Places {
        let claims = [("data", "/folder/data"), ("data-2", "/elsewhere"), ("shop-workspace", "/folder/claims/shop")];
        Places {
            claims: claims.into_iter().map(|(name, folder)| (name.to_owned(), PathBuf::from(folder))).collect(),
            objects: MountedObjects::new(&[("hub".to_owned(), "/keys/hub".into())], &[]),
            scratch: "/folder/pods/shop-0".into(),
            ports: [("http".to_owned(), 41_000), ("metrics".to_owned(), 41_001)].into(),
            termination_message: "/folder/pods/shop-0/termination-log".into(),
            completion_index: Some(3),
            pod_name: "shop-0".to_owned(),
            pod_uid: "shop-0-77".to_owned(),
        }
    }

    #[test]
    fn arguments_find_their_folders_ports_and_files() {
        let cases = [
            ("collect", "collect"),
            ("--dataset=/claims/data/train.jsonl", "--dataset=/folder/data/train.jsonl"),
            ("--dataset=/claims/data/shards/*.jsonl", "--dataset=/folder/data/shards/*.jsonl"),
            ("--dataset=/claims/data", "--dataset=/folder/data"),
            ("--dataset=/claims/data-2/x", "--dataset=/elsewhere/x"),
            ("--dataset=/claims/data-3/x", "--dataset=/claims/data-3/x"),
            ("--output=/workspace/cllm", "--output=/folder/claims/shop/cllm"),
            ("--scratch=/tmp/x", "--scratch=/folder/pods/shop-0/tmp/x"),
            ("--model=/models/target", "--model=/models/target"),
            ("--output-uri=pvc://data/x", "--output-uri=pvc://data/x"),
            ("--text=see /workspace/cllm", "--text=see /workspace/cllm"),
            ("--host=0.0.0.0", "--host=127.0.0.1"),
            ("--http-port=8000", "--http-port=41000"),
            ("--metrics-port=9090", "--metrics-port=41001"),
            ("--metrics-port=9091", "--metrics-port=9091"),
            ("--steps=8000", "--steps=8000"),
            ("--termination-message=/dev/termination-log", "--termination-message=/folder/pods/shop-0/termination-log"),
        ];
        let arguments: Vec<&str> = cases.iter().map(|(before, _)| *before).collect();
        let command = translate(&template(&json!({"args": arguments})), &places()).unwrap();
        assert_eq!(command.program, "cllm-trainer");
        assert_eq!(command.args, cases.map(|(_, after)| after));
    }

    #[test]
    fn a_secret_is_a_folder_that_was_named() {
        let command = translate(
            &template(&json!({
                "args": ["--credentials=/credentials/model"],
                "volumeMounts": [{"name": "credentials-model", "mountPath": "/credentials/model", "readOnly": true}],
            })),
            &places(),
        );
        assert_eq!(command.unwrap().args, ["--credentials=/keys/hub"]);
    }

    #[test]
    fn folders_are_named_with_their_claims() {
        let command = translate(&template(&json!({})), &places()).unwrap();
        let folder = |path: &str, claim: Option<&str>, read_only| Folder {
            path: path.into(),
            claim: claim.map(str::to_owned),
            read_only,
        };
        assert!(command.folders.contains(&folder("/folder/data", Some("data"), true)));
        assert!(command.folders.contains(&folder("/folder/claims/shop", Some("shop-workspace"), false)));
        assert!(command.folders.contains(&folder("/folder/pods/shop-0/tmp", None, false)));
    }

    #[test]
    fn the_environment_knows_index_and_pod() {
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let env = json!([{"name": "PLAIN", "value": "1"}, field("POD", "metadata.name"), field("UID", "metadata.uid")]);
        let command = translate(&template(&json!({"env": env})), &places()).unwrap();
        let expected = [("JOB_COMPLETION_INDEX", "3"), ("PLAIN", "1"), ("POD", "shop-0"), ("UID", "shop-0-77")];
        assert_eq!(command.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn probes_ask_the_local_port() {
        let probe =
            json!({"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5, "failureThreshold": 720});
        let command = translate(&template(&json!({"startupProbe": probe})), &places()).unwrap();
        let startup = command.probes.startup.unwrap();
        assert_eq!(startup.url, "http://127.0.0.1:41000/readyz");
        assert_eq!((startup.period.as_secs(), startup.failure_threshold, startup.timeout.as_secs()), (5, 720, 1));
        assert_eq!(command.probes.readiness, None);
    }

    #[test]
    fn what_has_no_counterpart_here_is_refused_with_a_sentence() {
        let secret = json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}});
        let unknown = json!([{"name": "missing", "mountPath": "/secrets"}]);
        let mounted = |volume: &str| json!({"volumeMounts": [{"name": volume, "mountPath": "/mounted"}]});
        let cases = [
            (mounted("credentials-output"), "--secret store=DIR"),
            (mounted("certificates-model"), "--config-map authorities=DIR"),
            (json!({"env": [secret]}), "the variable KEY"),
            (json!({"volumeMounts": unknown}), "the volume 'missing'"),
            (json!({"command": ["sh", "-c"]}), "a command of 2 words"),
            (json!({"readinessProbe": {"exec": {"command": ["true"]}}}), "the readiness probe"),
            (json!({"livenessProbe": {"httpGet": {"port": "https"}}}), "the liveness probe"),
        ];
        for (extra, expected) in cases {
            let error = translate(&template(&extra), &places()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let mut without_folder = places();
        without_folder.claims.clear();
        let error = translate(&template(&json!({})), &without_folder).unwrap_err().to_string();
        assert!(error.contains("--claim data=DIR"), "{error}");
    }
}
