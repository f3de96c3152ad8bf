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
