//! The leader's part in what is served over HTTPS. Look after look, the certificates are made and renewed ([`certificates`]); then the API
//! server is told where the adapter is ([`registration`]) and whom to trust at the webhook ([`authorities`]). None of the three knows of
//! another: what they tell each other goes through here.

mod authorities;
mod certificates;
mod changes;
mod error;
mod registration;

use std::time::Duration;

use futures::stream::{StreamExt, select_all};
use kube::Client;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::adapter::Mode;
use crate::controller::upkeep::authorities::Authorities;
use crate::controller::upkeep::certificates::Certificates;
use crate::controller::upkeep::changes::Changes;
use crate::controller::upkeep::error::UpkeepError;
use crate::controller::upkeep::registration::Registrar;
use crate::https::HttpsSettings;
use crate::model::MetricsApi;

/// Changes are watched; this only heals what a watch missed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Whoever changes things back and forth does not keep this busy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(5);

/// Keeps all of it until it is stopped.
pub(super) struct Upkeep {
    certificates: Certificates,
    /// Absent: no metrics are offered.
    registrar: Option<Registrar>,
    /// Absent: there is no webhook.
    authorities: Option<Authorities>,
}

impl Upkeep {
    /// Has done nothing yet. `client` writes only while this operator leads.
    pub(super) fn new(client: &Client, settings: &HttpsSettings, metrics_api: watch::Sender<MetricsApi>) -> Self {
        let has_adapter = settings.adapter != Mode::False;
        let webhook = settings.injection_webhook.as_ref();
        Self {
            certificates: Certificates::new(client.clone(), settings),
            registrar: has_adapter.then(|| Registrar::new(client.clone(), settings, metrics_api)),
            authorities: webhook.map(|name| Authorities::new(client.clone(), name, settings)),
        }
    }

    /// Looks whenever something changes, and whenever something is due.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.changes();
        loop {
            let pause = match Box::pin(self.round()).await {
                Ok(pause) => pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "certificates and registration are tried again");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                // Several changes often come together.
                Some(()) = changes.next() => sleep(SHORTEST_PAUSE).await,
                () = sleep(pause) => {}
            }
        }
    }

    /// Something happens whenever one of the objects changes.
    fn changes(&self) -> Changes {
        let of_adapter = self.registrar.as_ref().map(Registrar::changes);
        let of_webhook = self.authorities.as_ref().map(Authorities::changes);
        let all = [Some(self.certificates.changes()), of_adapter, of_webhook];
        Box::pin(select_all(all.into_iter().flatten()))
    }

    /// One look at everything; answers after how long the next one is due.
    async fn round(&mut self) -> Result<Duration, UpkeepError> {
        let (bundle, due) = self.certificates.keep(LONGEST_PAUSE).await?;
        let Some(bundle) = bundle else { return Ok(due) };
        let mut has_written = false;
        if let Some(registrar) = &self.registrar {
            has_written |= registrar.tell(&bundle).await?;
        }
        if let Some(authorities) = &self.authorities {
            has_written |= authorities.tell(&bundle).await?;
        }
        self.certificates.published(bundle, has_written);
        Ok(due)
    }
}
