//! From a Pod as the API server has it to the patch that gives it a sidecar. The Pod is never read into a type: what this version of the
//! operator does not know stays as it is.

use std::collections::BTreeSet;

use json_patch::{Patch, diff};
use serde_json::{Map, Value, json};

use crate::injection::refusal::Refusal;
use crate::injection::sidecar::{CONTAINER, Sidecar};
use crate::model::{ResolvedModel, ValidModel};
use crate::naming::{DIGEST_ANNOTATION, PORT_ANNOTATION, REFUSAL_ANNOTATION};
use crate::pod::{HTTP_PORT, METRICS_PORT};
use crate::resources::object;

/// Where clients of OpenAI look for the API.
pub const BASE_URL_VARIABLE: &str = "OPENAI_BASE_URL";
/// Without a key these clients do not start; the sidecar asks for none.
pub const API_KEY_VARIABLE: &str = "OPENAI_API_KEY";

const PLACEHOLDER_KEY: &str = "none-needed";
/// Of the API, as in replicas.
const DEFAULT_PORT: u16 = HTTP_PORT as u16;
/// Below it only root listens.
const FIRST_PORT: u16 = 1024;

/// What gives the Pod a sidecar that serves the checkpoint; nothing for one that has it.
pub fn inject(pod: &Value, model: &ValidModel, checkpoint: &ResolvedModel) -> Result<Patch, Refusal> {
    if has_sidecar(pod) {
        return Ok(Patch::default());
    }
    let port = port(pod)?;
    check(pod, port)?;
    let sidecar = Sidecar::new(model, checkpoint, port);
    let sidecar = if is_root(pod) { sidecar.without_root() } else { sidecar };
    check_volumes(pod, &sidecar)?;
    let mut injected = pod.clone();
    let added = add_to_spec(&mut injected, sidecar, port).and_then(|()| annotate(&mut injected, checkpoint.digest()));
    added.ok_or(Refusal::NotAPod)?;
    Ok(diff(pod, &injected))
}

/// What says on the Pod why it has no sidecar.
pub(super) fn refuse(pod: &Value, refusal: &Refusal) -> Patch {
    let mut refused = pod.clone();
    match annotations(&mut refused) {
        Some(annotations) => {
            annotations.insert(REFUSAL_ANNOTATION.to_owned(), json!(refusal.to_string()));
            diff(pod, &refused)
        }
        None => Patch::default(),
    }
}

/// Whether the Pod has been here before.
pub(super) fn has_sidecar(pod: &Value) -> bool {
    let mut containers = items(pod, "/spec/initContainers");
    containers.any(|container| container["name"] == CONTAINER && container["restartPolicy"] == "Always")
}

fn port(pod: &Value) -> Result<u16, Refusal> {
    let Some(asked) = annotation(pod, PORT_ANNOTATION) else { return Ok(DEFAULT_PORT) };
    let port = asked.parse::<u16>().ok().filter(|port| *port >= FIRST_PORT && i32::from(*port) != METRICS_PORT);
    port.ok_or_else(|| Refusal::Port { found: asked.to_owned() })
}

fn check(pod: &Value, port: u16) -> Result<(), Refusal> {
    if items(pod, "/spec/containers").next().is_none() {
        return Err(Refusal::NotAPod);
    }
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        return Err(Refusal::HostNetwork);
    }
    for container in items(pod, "/spec/containers").chain(items(pod, "/spec/initContainers")) {
        let name = container["name"].as_str().unwrap_or_default();
        if name == CONTAINER {
            return Err(Refusal::NameTaken { kind: "container", name: name.to_owned() });
        }
        check_ports(name, items(container, "/ports"), port)?;
    }
    Ok(())
}

fn check_ports<'a>(container: &str, mut theirs: impl Iterator<Item = &'a Value>, ours: u16) -> Result<(), Refusal> {
    let taken = theirs.find(|port| {
        let (number, protocol) = (&port["containerPort"], &port["protocol"]);
        (*number == ours || *number == METRICS_PORT) && (protocol.is_null() || protocol == "TCP")
    });
    let container = container.to_owned();
    match taken {
        None => Ok(()),
        Some(port) if port["containerPort"] == ours => Err(Refusal::PortTaken { container, port: ours }),
        Some(_) => Err(Refusal::MetricsPortTaken { container }),
    }
}

fn check_volumes(pod: &Value, sidecar: &Sidecar) -> Result<(), Refusal> {
    let ours: BTreeSet<_> = sidecar.volumes.iter().map(|volume| volume.name.as_str()).collect();
    let mut theirs = items(pod, "/spec/volumes").filter_map(|volume| volume["name"].as_str());
    match theirs.find(|name| ours.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Refusal::NameTaken { kind: "volume", name: name.to_owned() }),
    }
}

fn is_root(pod: &Value) -> bool {
    pod.pointer("/spec/securityContext/runAsUser").is_some_and(|user| *user == 0)
}

fn add_to_spec(pod: &mut Value, sidecar: Sidecar, port: u16) -> Option<()> {
    let Sidecar { container, volumes, tolerations, image_pull_secrets } = sidecar;
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    for theirs in spec.get_mut("containers")?.as_array_mut()? {
        add_environment(theirs.as_object_mut()?, port)?;
    }
    // Last, so that what prepares the Pod, or leads its traffic, is there before; the Pod's own containers start after it.
    list(spec, "initContainers")?.push(object(&container));
    list(spec, "volumes")?.extend(volumes.iter().map(object));
    add_missing(spec, "tolerations", "key", tolerations.iter().map(object))?;
    add_missing(spec, "imagePullSecrets", "name", image_pull_secrets.iter().map(object))
}

/// A container that names another API goes its own way.
fn add_environment(container: &mut Map<String, Value>, port: u16) -> Option<()> {
    let variables = list(container, "env")?;
    if !has(variables, BASE_URL_VARIABLE) {
        variables.push(json!({"name": BASE_URL_VARIABLE, "value": format!("http://127.0.0.1:{port}/v1")}));
        if !has(variables, API_KEY_VARIABLE) {
            variables.push(json!({"name": API_KEY_VARIABLE, "value": PLACEHOLDER_KEY}));
        }
    }
    Some(())
}

fn has(variables: &[Value], name: &str) -> bool {
    variables.iter().any(|variable| variable["name"] == name)
}

/// Adds those items to a list whose key no item of it has.
fn add_missing(
    fields: &mut Map<String, Value>,
    name: &str,
    key: &str,
    items: impl Iterator<Item = Value>,
) -> Option<()> {
    for item in items {
        let known = list(fields, name)?;
        if known.iter().all(|other| other[key] != item[key]) {
            known.push(item);
        }
    }
    Some(())
}

/// Which checkpoint it is, and that nothing is refused any more.
fn annotate(pod: &mut Value, digest: Option<&str>) -> Option<()> {
    if digest.is_none() && annotation(pod, REFUSAL_ANNOTATION).is_none() {
        return Some(());
    }
    let annotations = annotations(pod)?;
    annotations.remove(REFUSAL_ANNOTATION);
    if let Some(digest) = digest {
        annotations.insert(DIGEST_ANNOTATION.to_owned(), json!(digest));
    }
    Some(())
}

fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

fn annotations(pod: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = pod.get_mut("metadata")?.as_object_mut()?;
    made(metadata, "annotations", || json!({})).as_object_mut()
}

fn list<'a>(fields: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Vec<Value>> {
    made(fields, name, || json!([])).as_array_mut()
}

/// The value of that name, made where there is none.
fn made<'a>(fields: &'a mut Map<String, Value>, name: &str, empty: fn() -> Value) -> &'a mut Value {
    let value = fields.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = empty();
    }
    value
}

/// The items of a list; of none where there is none.
fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}
