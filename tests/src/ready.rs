//! Whether `Ready` is true only while a replica answers, looked at again and again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::TestNamespace;

const PAUSE: Duration = Duration::from_millis(250);

/// Samples the models of a namespace until it is dropped.
pub struct ReadySampler {
    wrong: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ReadySampler {
    /// Starts. A model may be Ready for as long as `tolerance` after its last replica stopped answering: a status follows what it is about.
    pub fn start(namespace: &TestNamespace, tolerance: Duration) -> Self {
        let wrong = Arc::<Mutex<Vec<String>>>::default();
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("cllm.dev", "v1alpha1", "CllmModel"));
        let models = Api::<DynamicObject>::namespaced_with(namespace.client(), namespace.name(), &kind);
        let (pods, writer) = (namespace.api::<Pod>(), wrong.clone());
        let task = tokio::spawn(async move {
            let mut since = BTreeMap::new();
            loop {
                if let Some(found) = ready_without_replica(&models, &pods).await {
                    since.retain(|name, _| found.contains_key(name));
                    for (name, status) in found {
                        let first = *since.entry(name.clone()).or_insert_with(Instant::now);
                        if first.elapsed() >= tolerance {
                            let mut wrong = writer.lock().unwrap_or_else(PoisonError::into_inner);
                            wrong.push(format!("{name} for {:?}: {status}", first.elapsed()));
                        }
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { wrong, task }
    }

    /// The models that were Ready without a replica that answered, each time that they were.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ReadySampler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The Pods are read first and the models between two looks at them: a Pod that came or went meanwhile is no error.
async fn ready_without_replica(models: &Api<DynamicObject>, pods: &Api<Pod>) -> Option<BTreeMap<String, Value>> {
    let before = answering(pods).await?;
    let models = models.list(&ListParams::default()).await.ok()?;
    let after = answering(pods).await?;
    let answers = |name: &String| before.contains(name) || after.contains(name);
    let wrong = models.items.into_iter().filter(is_ready).filter(|model| !answers(&model.name_any()));
    Some(wrong.map(|model| (model.name_any(), model.data["status"]["conditions"].clone())).collect())
}

fn is_ready(model: &DynamicObject) -> bool {
    let conditions = model.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The models that have a Pod that is ready.
async fn answering(pods: &Api<Pod>) -> Option<Vec<String>> {
    let list = pods.list(&ListParams::default().labels("cllm.dev/model")).await.ok()?;
    let is_ready = |pod: &&Pod| {
        let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Some(list.iter().filter(is_ready).filter_map(|pod| pod.labels().get("cllm.dev/model").cloned()).collect())
}
