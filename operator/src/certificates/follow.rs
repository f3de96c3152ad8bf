//! Every replica reads the Secret and serves what is in it, from one connection to the next.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::certificates::keys;
use crate::certificates::pair::{UnusablePair, pair_of};

/// What is served at the moment; nothing until the Secret was read.
#[derive(Clone, Debug)]
pub struct Served(watch::Receiver<Option<Arc<CertifiedKey>>>);

impl Served {
    /// Of that channel, and the end of it to write to.
    pub fn channel() -> (watch::Sender<Option<Arc<CertifiedKey>>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Waits until the Secret was read, whether there is something to serve in it or nothing yet.
    pub async fn is_read(mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until there is something to serve; never if there never will be.
    pub async fn is_there(mut self) {
        if self.0.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

/// Reads the Secret for as long as it is polled. What cannot be served is reported, and what was served before is served on.
pub async fn follow(client: Client, namespace: &str, name: &str, served: &watch::Sender<Option<Arc<CertifiedKey>>>) {
    let secrets = Api::<Secret>::namespaced(client, namespace);
    let mut changes = pin!(watch_object(secrets, name).default_backoff());
    while let Some(change) = changes.next().await {
        match change {
            Ok(Some(secret)) => take_up(&secret.data.unwrap_or_default(), name, served),
            Ok(None) => {
                tracing::warn!(secret = %name, "there is no such Secret yet: the leader makes it");
                nothing_yet(served);
            }
            Err(error) => tracing::warn!(secret = %name, %error, "the certificate was not read"),
        }
    }
}

fn take_up(data: &BTreeMap<String, ByteString>, name: &str, served: &watch::Sender<Option<Arc<CertifiedKey>>>) {
    match pair(data) {
        Ok(None) => nothing_yet(served),
        Ok(Some(pair)) => {
            let is_new = served.borrow().as_ref().is_none_or(|known| known.cert != pair.cert);
            if is_new {
                tracing::info!(secret = %name, "a new certificate is served");
                served.send_replace(Some(Arc::new(pair)));
            }
        }
        Err(error) => tracing::warn!(secret = %name, %error, "what the Secret holds cannot be served"),
    }
}

/// Says that the Secret was read; what was served before is served on.
fn nothing_yet(served: &watch::Sender<Option<Arc<CertifiedKey>>>) {
    served.send_modify(|_| ());
}

/// `None` while nothing is in it: the chart makes it empty.
fn pair(data: &BTreeMap<String, ByteString>) -> Result<Option<CertifiedKey>, UnusablePair> {
    let get = |key: &str| data.get(key).map(|value| value.0.as_slice()).filter(|value| !value.is_empty());
    match (get(keys::CERTIFICATE), get(keys::PRIVATE_KEY)) {
        (None, None) => Ok(None),
        (chain, key) => pair_of(chain.unwrap_or_default(), key.unwrap_or_default()).map(Some),
    }
}
