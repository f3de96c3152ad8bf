//! The models as the API server has them, kept up to date on every operator: no review waits for a request.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cllm_crds::CllmModel;
use futures::StreamExt;
use kube::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};

/// The models that this operator looks after.
///
/// The controllers have a store of their own: it comes and goes with the Lease, this one does not.
#[derive(Clone, Debug)]
pub struct Models {
    store: Store<CllmModel>,
    are_read: Arc<AtomicBool>,
}

impl Models {
    /// None yet; they come with the work, which never ends.
    pub fn follow(api: Api<CllmModel>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (store, writer) = reflector::store();
        let models = Self { store, are_read: Arc::default() };
        let are_read = models.are_read.clone();
        let work = async move {
            let events = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::InitDone) => are_read.store(true, Ordering::Release),
                    Ok(Event::Init | Event::InitApply(_) | Event::Apply(_) | Event::Delete(_)) => {}
                    Err(error) => tracing::warn!(%error, "CllmModels are not watched"),
                }
            }
        };
        (models, work)
    }

    /// Whether all that exist were read once.
    pub fn are_read(&self) -> bool {
        self.are_read.load(Ordering::Acquire)
    }

    /// The model of that name, unless it is about to go.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<CllmModel>> {
        let model = self.store.get(&ObjectRef::new(name).within(namespace))?;
        model.metadata.deletion_timestamp.is_none().then_some(model)
    }
}
