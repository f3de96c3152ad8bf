//! The Secret with the certificate and its authorities: made and renewed, or only read where somebody else keeps it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use crate::certificates::{Decision, Rules, Source, Stored, carry_out, decide, keys};
use crate::controller::upkeep::changes::{Changes, changes_of};
use crate::controller::upkeep::error::UpkeepError;
use crate::https::HttpsSettings;
use crate::naming::FIELD_MANAGER;

/// Authorities to trust, PEM; absent while there are none.
type Bundle = Option<Vec<u8>>;

/// Authorities that every place which the API server reads has named since some moment.
struct Published {
    bundle: Vec<u8>,
    since: Instant,
}

/// Keeps the Secret.
pub(super) struct Certificates {
    secrets: Api<Secret>,
    name: String,
    source: Source,
    published: Option<Published>,
}

impl Certificates {
    pub(super) fn new(client: Client, settings: &HttpsSettings) -> Self {
        Self {
            secrets: Api::namespaced(client, &settings.service.namespace),
            name: settings.secret.clone(),
            source: settings.certificates.clone(),
            published: None,
        }
    }

    pub(super) fn changes(&self) -> Changes {
        changes_of(self.secrets.clone(), &self.name)
    }

    /// The authorities to trust, and after how long the certificates are due again: after `longest` where somebody else keeps them.
    pub(super) async fn keep(&self, longest: Duration) -> Result<(Bundle, Duration), UpkeepError> {
        let name = &self.name;
        let secret = self.secrets.get_opt(name).await.map_err(UpkeepError::api("read", self.described()))?;
        match &self.source {
            Source::Own(rules) => self.keep_own(secret.as_ref(), rules).await,
            Source::Given => {
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let bundle =
                    data.get(keys::AUTHORITIES).map(|bundle| bundle.0.clone()).filter(|bundle| !bundle.is_empty());
                if bundle.is_none() {
                    tracing::warn!(secret = %name, key = keys::AUTHORITIES, "the Secret names no authority to trust");
                }
                Ok((bundle, longest))
            }
        }
    }

    /// Every place that the API server reads names these authorities; `is_new`: one of them did not before.
    pub(super) fn published(&mut self, bundle: Vec<u8>, is_new: bool) {
        let since = match &self.published {
            Some(known) if known.bundle == bundle && !is_new => known.since,
            _ => Instant::now(),
        };
        self.published = Some(Published { bundle, since });
    }

    async fn keep_own(&self, secret: Option<&Secret>, rules: &Rules) -> Result<(Bundle, Duration), UpkeepError> {
        let name = &self.name;
        let data = secret.and_then(|secret| secret.data.clone()).unwrap_or_default();
        let stored = Stored::read(&data).unwrap_or_else(|error| {
            tracing::warn!(secret = %name, %error, "what the Secret holds is replaced");
            None
        });
        let now = Timestamp::now().as_second();
        match decide(now, stored.as_ref(), self.published_for(stored.as_ref()), rules) {
            Decision::Keep { until } => {
                let due = Duration::from_secs(u64::try_from(until.saturating_sub(now)).unwrap_or_default());
                Ok((stored.map(|stored| stored.bundle()), due))
            }
            Decision::Write(change) => {
                let next = carry_out(change, stored.as_ref(), now, rules)?;
                tracing::info!(secret = %name, ?change, "writing certificates");
                self.write(secret, &next).await?;
                Ok((Some(next.bundle()), Duration::ZERO))
            }
        }
    }

    /// For how long every place names what is stored.
    fn published_for(&self, stored: Option<&Stored>) -> Option<Duration> {
        let Published { bundle, since } = self.published.as_ref()?;
        (stored?.bundle() == *bundle).then(|| since.elapsed())
    }

    /// With the version that was read: of two who write at once one is refused.
    async fn write(&self, secret: Option<&Secret>, stored: &Stored) -> Result<(), UpkeepError> {
        let name = &self.name;
        let mut declared = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "data": stored.data(),
        });
        if let Some(secret) = secret {
            declared["metadata"]["uid"] = json!(secret.metadata.uid);
            declared["metadata"]["resourceVersion"] = json!(secret.metadata.resource_version);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let written = self.secrets.patch(name, &parameters, &Patch::Apply(&declared)).await;
        written.map(drop).map_err(UpkeepError::api("write", self.described()))
    }

    fn described(&self) -> String {
        format!("Secret {}", self.name)
    }
}
