//! Tells of Pods that asked for a sidecar and run without: each once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cllm_crds::CllmModel;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::pods::events_of;
use crate::controller::status::publish;
use crate::injection::{Missed, REASON, missed};

/// More than that are forgotten: then it is looked up in the Events what was told.
const MOST_REMEMBERED: usize = 10_000;

/// What every look at a Pod needs.
pub(super) struct MissedContext {
    operator: Arc<Context>,
    /// The uids of Pods of which was told.
    told: Mutex<HashSet<String>>,
}

impl MissedContext {
    /// Nothing was told yet.
    pub(super) fn new(operator: Arc<Context>) -> Self {
        Self { operator, told: Mutex::default() }
    }

    /// The set is whole even if a thread died while it held the lock.
    fn told(&self) -> MutexGuard<'_, HashSet<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, uid: String) {
        let mut told = self.told();
        if told.len() >= MOST_REMEMBERED {
            told.clear();
        }
        told.insert(uid);
    }
}

/// One look at a Pod with the label.
pub(super) async fn reconcile(pod: Arc<Pod>, context: Arc<MissedContext>) -> Result<Action, Error> {
    let uid = pod.uid().unwrap_or_default();
    if let Some(missed) = missed(&pod).filter(|_| !context.told().contains(&uid)) {
        let namespace = pod.namespace().ok_or(Error::Nameless)?;
        let events = events_of(&context.operator.client, &namespace, &uid).await?;
        // An operator before this one may have told of it.
        if events.iter().all(|event| event.reason.as_deref() != Some(REASON)) {
            tell(&pod, &missed, &namespace, &context.operator).await?;
        }
        context.operator.succeeded(&key(&pod));
        context.remember(uid);
    }
    Ok(Action::await_change())
}

/// What happens after an error.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it like this")]
pub(super) fn error_policy(pod: Arc<Pod>, error: &Error, context: Arc<MissedContext>) -> Action {
    let key = key(&pod);
    tracing::warn!(pod = %key, %error, "not told of");
    context.operator.retry(&key, error)
}

fn key(pod: &Pod) -> String {
    format!("Pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// On the model first: only what stands on the Pod says that all was told.
async fn tell(pod: &Pod, missed: &Missed, namespace: &str, context: &Context) -> Result<(), Error> {
    let models = Api::<CllmModel>::namespaced(context.client.clone(), namespace);
    let described = || format!("CllmModel {}", missed.model);
    // The API server has no name that is empty.
    let model = match missed.model.as_str() {
        "" => None,
        name => models.get_opt(name).await.map_err(Error::api("read", described()))?,
    };
    if let Some(model) = model {
        publish(&model, missed.of_model(), context).await.map_err(Error::api("tell of", described()))?;
    }
    publish(pod, missed.of_pod(), context).await.map_err(Error::api("tell of", key(pod)))
}
