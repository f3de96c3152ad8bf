//! What every reconciliation needs, and how often each resource has failed in a row.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::watch;

use crate::adapter::MetricsApi;
use crate::controller::error::{Error, Handling};
use crate::controller::metrics::Metrics;
use crate::images::Images;

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
    /// Tells people what happened.
    pub recorder: Recorder,
    /// Counters and durations.
    pub metrics: Metrics,
    metrics_api: watch::Receiver<MetricsApi>,
    failures: Mutex<HashMap<String, u32>>,
}

impl Context {
    /// With no failure counted yet.
    pub(super) fn new(
        client: Client,
        pages: reqwest::Client,
        images: Images,
        metrics: Metrics,
        metrics_api: watch::Receiver<MetricsApi>,
    ) -> Self {
        let reporter = Reporter { controller: "cllm.dev/operator".to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, pages, images, recorder, metrics, metrics_api, failures: Mutex::default() }
    }

    /// Who offers metrics to autoscalers at the moment.
    pub(super) fn metrics_api(&self) -> MetricsApi {
        self.metrics_api.borrow().clone()
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
