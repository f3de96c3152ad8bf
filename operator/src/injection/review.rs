//! What the API server asks about a Pod that is to be made, and what it is told: always yes, with a patch or a warning.
//!
//! The types of kube want an object of a known kind; here it stays as it came.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cllm_crds::CllmModel;
use cllm_crds::conditions::types;
use json_patch::Patch;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::conditions::find as find_condition;
use crate::images::Images;
use crate::injection::inject::{has_sidecar, inject, refuse};
use crate::injection::refusal::Refusal;
use crate::model::{serving, validate};
use crate::naming::INJECT_LABEL;

/// An AdmissionReview of `admission.k8s.io/v1`, as far as it is read.
#[derive(Clone, Debug, Deserialize)]
pub struct Review {
    /// What is asked.
    pub request: Request,
}

/// What is asked about one object.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    /// By which the answer is known.
    pub uid: String,
    /// Where the object is to be; it may not say so itself.
    pub namespace: Option<String>,
    /// `CREATE` and others.
    pub operation: String,
    /// As it came.
    #[serde(default)]
    pub object: Value,
}

/// What becomes of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gets a sidecar.
    Injected,
    /// It asks for none, or has it.
    Untouched,
    /// It asks for one and gets none: the Pod says why.
    Refused,
    /// The same, and the reason is this operator.
    NotReady,
}

/// What the API server is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// An AdmissionReview.
    pub review: Value,
    /// What that means for the Pod.
    pub outcome: Outcome,
}

/// The answer to a review. `find` looks a model up by namespace and name.
pub fn answer(
    request: &Request,
    images: &Images,
    find: impl FnOnce(&str, &str) -> Result<Arc<CllmModel>, Refusal>,
) -> Answer {
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let Some(name) = asked(request) else {
        return Answer { review: response(&request.uid, &Patch::default(), None), outcome: Outcome::Untouched };
    };
    match patch(&request.object, images, name, |name| find(namespace, name)) {
        Ok(patch) => {
            tracing::info!(namespace, model = name, changes = patch.len(), "a sidecar for a Pod");
            Answer { review: response(&request.uid, &patch, None), outcome: Outcome::Injected }
        }
        Err(refusal) => {
            tracing::warn!(namespace, model = name, %refusal, "no sidecar for a Pod");
            let outcome = if refusal == Refusal::NotReady { Outcome::NotReady } else { Outcome::Refused };
            let patch = refuse(&request.object, &refusal);
            Answer { review: response(&request.uid, &patch, Some(format!("no sidecar: {refusal}"))), outcome }
        }
    }
}

/// The model that a new Pod asks for, unless it has it.
fn asked(request: &Request) -> Option<&str> {
    let pod = Some(&request.object).filter(|pod| request.operation == "CREATE" && !has_sidecar(pod))?;
    pod.get("metadata")?.get("labels")?.get(INJECT_LABEL)?.as_str()
}

fn patch(
    pod: &Value,
    images: &Images,
    name: &str,
    find: impl FnOnce(&str) -> Result<Arc<CllmModel>, Refusal>,
) -> Result<Patch, Refusal> {
    if name.is_empty() {
        return Err(Refusal::NoName);
    }
    let model = find(name)?;
    let invalid = |source| Refusal::InvalidModel { name: name.to_owned(), source };
    let valid = validate(&model, images).map_err(invalid)?;
    let checkpoint = serving(&valid);
    let waiting = || Refusal::NothingToServe { name: name.to_owned(), message: why_not_ready(&model) };
    inject(pod, &valid, &checkpoint.ok_or_else(waiting)?)
}

/// In the words of its own status.
fn why_not_ready(model: &CllmModel) -> String {
    let ready = model.status.as_ref().and_then(|status| find_condition(&status.conditions, types::READY));
    ready.map_or_else(|| "the operator has not looked at it yet".to_owned(), |ready| ready.message.clone())
}

fn response(uid: &str, patch: &Patch, warning: Option<String>) -> Value {
    let mut response = json!({"uid": uid, "allowed": true});
    if !patch.is_empty() {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(patch.to_string()));
    }
    if let Some(warning) = warning {
        response["warnings"] = json!([warning]);
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
