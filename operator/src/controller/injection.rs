//! What every operator does so that Pods get their sidecars, whoever leads: reads the models, and the key of the door. The leader gives
//! the door its key.

use std::pin::pin;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::{StreamExt, future};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::controller::run::{Settings, api};
use crate::injection::{Injector, Key, Models, Registration, registration};
use crate::naming::FIELD_MANAGER;

/// What was written is seen after a moment.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// What a MutatingWebhookConfiguration is asked through, and what keeps it up to date.
pub(super) struct Injection {
    /// Answers reviews; its router is served over HTTPS.
    pub(super) injector: Injector,
    /// Never ends.
    pub(super) work: BoxFuture<'static, ()>,
    /// What the configuration says.
    pub(super) registration: watch::Receiver<Registration>,
}

impl Injection {
    /// For the configuration that is named; nothing where none is.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let name = settings.https.as_ref()?.injection_webhook.clone()?;
        let (sender, registration) = watch::channel(Registration::default());
        let (models, reads) = Models::follow(api(settings));
        let injector = Injector::new(models, settings.images.clone(), registration.clone());
        let follows = follow(settings.client.clone(), name, sender);
        Some(Self { injector, work: future::join(reads, follows).map(|_| ()).boxed(), registration })
    }
}

/// Keeps what is known of the configuration up to date.
async fn follow(client: Client, name: String, known: watch::Sender<Registration>) {
    let changes = watch_object(Api::<MutatingWebhookConfiguration>::all(client), &name).default_backoff();
    let mut changes = pin!(changes);
    while let Some(change) = changes.next().await {
        match change {
            Ok(configuration) => drop(known.send_replace(registration(configuration.as_ref()))),
            Err(error) => tracing::warn!(%name, %error, "the MutatingWebhookConfiguration is not watched"),
        }
    }
}

/// Gives the webhook a key whenever it has none. Never ends.
pub(super) async fn give_key(client: Client, name: &str, mut known: watch::Receiver<Registration>) {
    let configurations = Api::<MutatingWebhookConfiguration>::all(client);
    while known.wait_for(|registration| *registration == Registration::Keyless).await.is_ok() {
        let patch = Patch::Strategic(Key::random().patch());
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match configurations.patch(name, &parameters, &patch).await {
            Ok(_) => tracing::info!(%name, "the webhook has a key"),
            Err(error) => tracing::warn!(%name, %error, "the webhook gets no key"),
        }
        // It may be another change than that one: then the loop comes here again.
        drop(timeout(SEEN_WITHIN, known.changed()).await);
    }
    future::pending::<()>().await;
}
