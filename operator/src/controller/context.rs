//! What every reconciliation needs, and how often each resource has failed in a row.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::watch;

use crate::controller::error::{Error, Handling};
use crate::controller::metrics::Metrics;
use crate::images::Images;
use crate::model::MetricsApi;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// What every reconciliation needs.
pub(super) struct Context {
    /// Of the cluster.
    pub client: Client,
    /// Of the Pods' `/status` pages.
    pub pages: reqwest::Client,
    /// What runs when a spec names no image.
    pub images: Images,
    /// Who serves the metrics that models are scaled on.
    pub metrics_api: watch::Receiver<MetricsApi>,
    /// Tells people what happened.
    pub recorder: Recorder,
    /// Counters and durations.
    pub metrics: Metrics,
    failures: Mutex<HashMap<String, u32>>,
}

impl Context {
    /// With no failure counted yet.
    pub(super) fn new(
        client: Client,
        pages: reqwest::Client,
        images: Images,
        metrics_api: watch::Receiver<MetricsApi>,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter { controller: "cllm.dev/operator".to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, pages, images, metrics_api, recorder, metrics, failures: Mutex::default() }
    }

    /// Forgets the failures of a resource (`Kind namespace/name`).
    pub(super) fn succeeded(&self, resource: &str) {
        self.failures().remove(resource);
    }

    /// When a resource is tried again after an error.
    pub(super) fn retry(&self, resource: &str, error: &Error) -> Action {
        match error.handling() {
            Handling::Stalled { .. } => Action::requeue(LAST_RETRY),
            Handling::Waiting(delay) => Action::requeue(delay),
            Handling::Failed => {
                let mut failures = self.failures();
                let count = failures.entry(resource.to_owned()).or_default();
                let delay = FIRST_RETRY.saturating_mul(1 << (*count).min(10)).min(LAST_RETRY);
                *count += 1;
                Action::requeue(delay)
            }
        }
    }

    /// The map is whole even if a thread died while it held the lock.
    fn failures(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
