//! Reads whom to trust, and takes up what changes: the authorities of the front proxy are replaced while everything runs.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::authentication::configuration::Configuration;
use crate::authentication::{CONFIGURATION_NAME, CONFIGURATION_NAMESPACE};

/// Reads the ConfigMap for as long as it is polled.
pub async fn follow(client: Client, configuration: &watch::Sender<Option<Arc<Configuration>>>) {
    let maps = Api::<ConfigMap>::namespaced(client, CONFIGURATION_NAMESPACE);
    let mut changes = pin!(watch_object(maps, CONFIGURATION_NAME).default_backoff());
    while let Some(change) = changes.next().await {
        match change {
            Ok(map) => {
                let read = Configuration::read(&map.and_then(|map| map.data).unwrap_or_default());
                tracing::info!(configuration = ?read, "whom the API server trusts was read");
                configuration.send_replace(Some(Arc::new(read)));
            }
            // What was read before still holds.
            Err(error) => tracing::warn!(%error, "whom the API server trusts was not read"),
        }
    }
}
