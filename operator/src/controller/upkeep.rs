//! The leader's part in what is served over HTTPS: it makes and renews the certificates, and tells the API server where the adapter is and
//! which authorities to trust.

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::adapter::{API_SERVICE, Mode, OwnerGone, ServiceAddress, register};
use crate::certificates::{Decision, IssueError, Rules, Source, Stored, carry_out, decide, keys};
use crate::controller::diff::covers;
use crate::https::HttpsSettings;
use crate::model::MetricsApi;
use crate::naming::FIELD_MANAGER;
use crate::resources::object;

/// Changes are watched; this only heals what a watch missed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Whoever changes things back and forth does not keep this busy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(5);

type Changes = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// What went wrong; it is tried again.
#[derive(Debug, thiserror::Error)]
enum UpkeepError {
    #[error("failed to {verb} {object}: {source}")]
    Api { verb: &'static str, object: String, source: Box<kube::Error> },
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// Authorities that every place which the API server reads has named since some moment.
struct Published {
    bundle: Vec<u8>,
    since: Instant,
}

/// Keeps all of it until it is stopped.
pub(super) struct Upkeep {
    settings: HttpsSettings,
    secrets: Api<Secret>,
    api_services: Api<APIService>,
    webhooks: Api<MutatingWebhookConfiguration>,
    roles: Api<ClusterRole>,
    published: Option<Published>,
    metrics_api: watch::Sender<MetricsApi>,
}

impl Upkeep {
    /// Has done nothing yet. `client` writes only while this operator leads.
    pub(super) fn new(client: Client, settings: HttpsSettings, metrics_api: watch::Sender<MetricsApi>) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &settings.service.namespace),
            api_services: Api::all(client.clone()),
            webhooks: Api::all(client.clone()),
            roles: Api::all(client),
            settings,
            published: None,
            metrics_api,
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
        let mut changes = vec![changes_of(self.secrets.clone(), &self.settings.secret)];
        if self.settings.adapter != Mode::False {
            changes.push(changes_of(self.api_services.clone(), API_SERVICE));
        }
        if let Some(webhook) = &self.settings.injection_webhook {
            changes.push(changes_of(self.webhooks.clone(), webhook));
        }
        Box::pin(stream::select_all(changes))
    }

    /// One look at everything; answers after how long the next one is due.
    async fn round(&mut self) -> Result<Duration, UpkeepError> {
        let (bundle, due) = self.certificates().await?;
        let Some(bundle) = bundle else { return Ok(due) };
        let has_written = [self.register(&bundle).await?, self.tell_webhook(&bundle).await?].contains(&true);
        let since = match &self.published {
            Some(known) if known.bundle == bundle && !has_written => known.since,
            _ => Instant::now(),
        };
        self.published = Some(Published { bundle, since });
        Ok(due)
    }

    /// The authorities to trust, and after how long the certificates are due again.
    async fn certificates(&self) -> Result<(Option<Vec<u8>>, Duration), UpkeepError> {
        let name = &self.settings.secret;
        let secret = self.secrets.get_opt(name).await.map_err(api_error("read", format!("Secret {name}")))?;
        match &self.settings.certificates {
            Source::Own(rules) => self.own_certificates(secret.as_ref(), rules).await,
            Source::Given => {
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let bundle =
                    data.get(keys::AUTHORITIES).map(|bundle| bundle.0.clone()).filter(|bundle| !bundle.is_empty());
                if bundle.is_none() {
                    tracing::warn!(secret = %name, key = keys::AUTHORITIES, "the Secret names no authority to trust");
                }
                Ok((bundle, LONGEST_PAUSE))
            }
        }
    }

    async fn own_certificates(
        &self,
        secret: Option<&Secret>,
        rules: &Rules,
    ) -> Result<(Option<Vec<u8>>, Duration), UpkeepError> {
        let name = &self.settings.secret;
        let data = secret.and_then(|secret| secret.data.clone()).unwrap_or_default();
        let stored = Stored::read(&data).unwrap_or_else(|error| {
            tracing::warn!(secret = %name, %error, "what the Secret holds is replaced");
            None
        });
        let now = Timestamp::now().as_second();
        let published = self
            .published
            .as_ref()
            .filter(|published| stored.as_ref().is_some_and(|stored| stored.bundle() == published.bundle));
        match decide(now, stored.as_ref(), published.map(|published| published.since.elapsed()), rules) {
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

    /// With the version that was read: of two who write at once one is refused.
    async fn write(&self, secret: Option<&Secret>, stored: &Stored) -> Result<(), UpkeepError> {
        let name = &self.settings.secret;
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
        written.map(drop).map_err(api_error("write", format!("Secret {name}")))
    }

    /// Tells the API server where the adapter is, and whom to trust there; answers whether anything was written.
    async fn register(&self, bundle: &[u8]) -> Result<bool, UpkeepError> {
        if self.settings.adapter == Mode::False {
            return Ok(false);
        }
        let described = || format!("APIService {API_SERVICE}");
        let live = self.api_services.get_opt(API_SERVICE).await.map_err(api_error("read", described()))?;
        let registration = register(live.as_ref(), &self.settings.service, bundle, self.owner().await?);
        self.tell(registration.metrics_api);
        let differs = |declared: &Value| live.as_ref().is_none_or(|live| !covers(&object(live), declared));
        let Some(declared) = registration.declared.filter(differs) else { return Ok(false) };
        tracing::info!(api_service = API_SERVICE, "applying");
        // Without force what somebody else makes meanwhile is not taken over.
        let parameters = PatchParams::apply(FIELD_MANAGER);
        let parameters = if live.is_some() { parameters.force() } else { parameters };
        let applied = self.api_services.patch(API_SERVICE, &parameters, &Patch::Apply(&declared)).await;
        applied.map_err(api_error("apply", described()))?;
        Ok(true)
    }

    /// Says once who answers for metrics.
    fn tell(&self, metrics_api: MetricsApi) {
        let is_new = *self.metrics_api.borrow() != metrics_api;
        if !is_new {
            return;
        }
        match (&metrics_api, self.settings.adapter) {
            (MetricsApi::Foreign { owner }, Mode::True) => {
                tracing::error!(%owner, api_service = API_SERVICE, "another adapter serves metrics and is left alone");
            }
            (MetricsApi::Foreign { owner }, _) => {
                tracing::info!(%owner, api_service = API_SERVICE, "another adapter serves metrics and is left alone");
            }
            (MetricsApi::Served | MetricsApi::Disabled, _) => {
                tracing::info!(api_service = API_SERVICE, "no other adapter serves metrics any more");
            }
        }
        self.metrics_api.send_replace(metrics_api);
    }

    /// The reference to what owns the registration.
    async fn owner(&self) -> Result<Result<Option<OwnerReference>, OwnerGone>, UpkeepError> {
        let Some(name) = &self.settings.owner else { return Ok(Ok(None)) };
        let role = self.roles.get_opt(name).await.map_err(api_error("read", format!("ClusterRole {name}")))?;
        let role = role.filter(|role| role.metadata.deletion_timestamp.is_none());
        Ok(role.and_then(|role| role.owner_ref(&())).map(Some).ok_or(OwnerGone))
    }

    /// Tells the API server whom to trust at the webhook, if there is one; answers whether anything was written.
    async fn tell_webhook(&self, bundle: &[u8]) -> Result<bool, UpkeepError> {
        let Some(name) = &self.settings.injection_webhook else { return Ok(false) };
        let described = || format!("MutatingWebhookConfiguration {name}");
        let live = self.webhooks.get_opt(name).await.map_err(api_error("read", described()))?;
        let Some(declared) = live.as_ref().and_then(|live| trusting(live, &self.settings.service, bundle)) else {
            return Ok(false);
        };
        tracing::info!(webhook = %name, "telling which authorities to trust");
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.webhooks.patch(name, &parameters, &Patch::Apply(&declared)).await;
        applied.map_err(api_error("change", described()))?;
        Ok(true)
    }
}

/// What is to be applied so that all webhooks that lead to that Service trust these authorities; `None` if they do.
fn trusting(live: &MutatingWebhookConfiguration, address: &ServiceAddress, bundle: &[u8]) -> Option<Value> {
    let webhooks = live.webhooks.iter().flatten();
    let ours: Vec<_> = webhooks
        .filter(|webhook| {
            let service = webhook.client_config.service.as_ref();
            service.is_some_and(|service| address.is(Some(&service.namespace), Some(&service.name)))
        })
        .collect();
    let known = |webhook: &&MutatingWebhook| webhook.client_config.ca_bundle.clone().unwrap_or_default();
    if ours.iter().all(|webhook| known(webhook).0 == bundle) {
        return None;
    }
    let bundle = ByteString(bundle.to_vec());
    let webhooks = ours.iter().map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}));
    Some(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": live.metadata.name, "uid": live.metadata.uid},
        "webhooks": webhooks.collect::<Vec<_>>(),
    }))
}

fn changes_of<K>(api: Api<K>, name: &str) -> Changes
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let changes = watch_object(api, name).default_backoff();
    let name = name.to_owned();
    Box::pin(changes.filter_map(move |change| {
        let seen = change.inspect_err(|error| tracing::warn!(%name, %error, "not watched"));
        std::future::ready(seen.ok().map(drop))
    }))
}

fn api_error(verb: &'static str, object: String) -> impl FnOnce(kube::Error) -> UpkeepError {
    move |source| UpkeepError::Api { verb, object, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhooks_that_lead_here_are_told_and_only_if_they_do_not_know() {
        let address = ServiceAddress {
            namespace: "cllm".to_owned(),
            name: "cllm-operator".to_owned(),
            port: 8443,
            cluster_domain: "cluster.local".to_owned(),
        };
        let webhook = |name: &str, namespace: &str, bundle: &[u8]| {
            json!({
                "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {
                    "service": {"namespace": namespace, "name": "cllm-operator"}, "caBundle": ByteString(bundle.to_vec()),
                },
            })
        };
        let configuration = |webhooks: Vec<Value>| -> MutatingWebhookConfiguration {
            serde_json::from_value(json!({"metadata": {"name": "cllm", "uid": "1"}, "webhooks": webhooks})).unwrap()
        };
        let knows = configuration(vec![webhook("a", "cllm", b"new"), webhook("b", "other", b"old")]);
        assert_eq!(trusting(&knows, &address, b"new"), None);
        let old = configuration(vec![webhook("a", "cllm", b"old"), webhook("b", "other", b"old")]);
        let declared = trusting(&old, &address, b"new").unwrap();
        let expected = json!([{"name": "a", "clientConfig": {"caBundle": ByteString(b"new".to_vec())}}]);
        assert_eq!((&declared["webhooks"], &declared["metadata"]["uid"]), (&expected, &json!("1")));
    }
}
