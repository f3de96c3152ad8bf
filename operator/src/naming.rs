//! Labels, annotations and owner references: how children are recognized.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// Who writes the fields that the operator declares.
pub const FIELD_MANAGER: &str = "cllm-operator";
/// The label with the name of a CllmModel.
pub const MODEL_LABEL: &str = "cllm.dev/model";
/// The label with the name of a CllmTraining.
pub const TRAINING_LABEL: &str = "cllm.dev/training";
/// The label with the stage of a training's Job and Pods.
pub const STAGE_LABEL: &str = "cllm.dev/stage";
/// The annotation with the digest of the checkpoint on a replica's Pod.
pub const DIGEST_ANNOTATION: &str = "cllm.dev/model-digest";
/// The annotation with the hash of its template on a replica's Pod: what a replica says counts for what it was made from.
pub const TEMPLATE_ANNOTATION: &str = "cllm.dev/template";
/// The label with which a Pod asks for a sidecar: the name of a CllmModel of its namespace.
pub const INJECT_LABEL: &str = "cllm.dev/inject";
/// The label with which a namespace allows that, with the value `enabled`.
pub const INJECTION_LABEL: &str = "cllm.dev/injection";
/// The annotation with the port of a sidecar's API, where that is not 8000.
pub const PORT_ANNOTATION: &str = "cllm.dev/port";
/// The annotation that says why a Pod that asked for a sidecar got none.
pub const REFUSAL_ANNOTATION: &str = "cllm.dev/injection-refused";
/// The prefix of the labels that Kueue reads; they are copied to Jobs and Deployments.
const KUEUE_PREFIX: &str = "kueue.x-k8s.io/";

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// The labels of every child of a CllmModel.
pub(crate) fn model_labels(name: &str) -> Labels {
    child_labels("cllm-server", MODEL_LABEL, name)
}

/// The labels of every child of a CllmTraining.
pub(crate) fn training_labels(name: &str) -> Labels {
    child_labels("cllm-trainer", TRAINING_LABEL, name)
}

fn child_labels(program: &str, owner_label: &str, owner: &str) -> Labels {
    labels([
        ("app.kubernetes.io/name", program),
        ("app.kubernetes.io/instance", owner),
        ("app.kubernetes.io/part-of", "cllm"),
        ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        (owner_label, owner),
    ])
}

/// The labels that select the Pods of a child; a subset of its labels that never changes.
pub(crate) fn selector_labels(labels: &Labels) -> Labels {
    labels
        .iter()
        .filter(|(key, _)| [MODEL_LABEL, TRAINING_LABEL, "app.kubernetes.io/name"].contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The labels of the owner that Kueue reads.
pub(crate) fn queue_labels(owner: &ObjectMeta) -> Labels {
    let labels = owner.labels.iter().flatten();
    labels.filter(|(key, _)| key.starts_with(KUEUE_PREFIX)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Labels from pairs.
pub(crate) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The owner as its children need it: a name, a namespace and, once it exists in a cluster, a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// The name of the resource.
    pub name: String,
    /// Its namespace; absent in local mode when the file names none.
    pub namespace: Option<String>,
    /// Absent as long as the resource does not exist in a cluster.
    reference: Option<OwnerReference>,
}

impl Owner {
    /// The owner of the children of a resource.
    pub(crate) fn of<K: Resource<DynamicType = ()>>(resource: &K) -> Self {
        let metadata = resource.meta();
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone(),
            reference: resource.controller_owner_ref(&()).filter(|reference| !reference.uid.is_empty()),
        }
    }

    /// Whether the resource exists in a cluster.
    pub(crate) fn is_in_cluster(&self) -> bool {
        self.reference.is_some()
    }

    /// The metadata of a child.
    pub(crate) fn child(&self, name: &str, labels: &Labels) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: self.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: self.reference.clone().map(|reference| vec![reference]),
            ..ObjectMeta::default()
        }
    }
}

/// By what the children of a resource are recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerKey {
    /// [`MODEL_LABEL`] or [`TRAINING_LABEL`].
    pub label: &'static str,
    /// The name of the resource.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Whose an object is that has the name of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It refers to the resource.
    Ours,
    /// The operator made it for a resource of that name, and the owner reference was removed.
    Stripped,
    /// It refers to an earlier resource of that name.
    Predecessors,
    /// Someone else's.
    Foreign,
}

/// Whose an object is. Labels alone prove nothing, since anyone can write them: without a reference, the API server's own record of who
/// wrote the object decides.
pub fn ownership(metadata: &ObjectMeta, owner: &OwnerKey) -> Ownership {
    let references = metadata.owner_references.as_deref().unwrap_or_default();
    if references.iter().any(|reference| reference.uid == owner.uid) {
        return Ownership::Ours;
    }
    let labels = metadata.labels.as_ref();
    let has = |key: &str, value: &str| labels.and_then(|labels| labels.get(key)).is_some_and(|found| found == value);
    let is_marked = has("app.kubernetes.io/managed-by", FIELD_MANAGER) && has(owner.label, &owner.name);
    let mut managers = metadata.managed_fields.iter().flatten();
    let is_written_by_us = managers.any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    match references {
        _ if !is_marked || !is_written_by_us => Ownership::Foreign,
        [] => Ownership::Stripped,
        [..] => Ownership::Predecessors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_ours_by_its_reference_or_by_who_wrote_it() {
        let owner = OwnerKey { label: MODEL_LABEL, name: "text2sql".to_owned(), uid: "1".to_owned() };
        let reference = |uid: &str| json!([{"apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "name": "text2sql", "uid": uid}]);
        let (marked, theirs) = (json!(model_labels("text2sql")), json!(model_labels("other")));
        let written = |manager: &str| json!([{"manager": manager, "operation": "Apply"}]);
        for (labels, references, managers, expected) in [
            (&marked, reference("1"), written("cllm-operator"), Ownership::Ours),
            (&json!({}), reference("1"), written("kubectl"), Ownership::Ours),
            (&marked, json!([]), written("cllm-operator"), Ownership::Stripped),
            (&marked, json!([]), written("kubectl"), Ownership::Foreign),
            (&json!({}), json!([]), written("cllm-operator"), Ownership::Foreign),
            (&theirs, json!([]), written("cllm-operator"), Ownership::Foreign),
            (&marked, reference("2"), written("cllm-operator"), Ownership::Predecessors),
            (&json!({}), reference("2"), written("kubectl"), Ownership::Foreign),
        ] {
            let metadata = json!({"labels": labels, "ownerReferences": references, "managedFields": managers});
            let metadata = serde_json::from_value(metadata.clone()).unwrap();
            assert_eq!(ownership(&metadata, &owner), expected, "{metadata:?}");
        }
    }
}
