//! Tells the API server where the adapter is, and whom to trust there.

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::Value;
use tokio::sync::watch;

use crate::adapter::{API_SERVICE, Mode, OwnerGone, ServiceAddress, register};
use crate::controller::diff::covers;
use crate::controller::upkeep::changes::{Changes, changes_of};
use crate::controller::upkeep::error::UpkeepError;
use crate::https::HttpsSettings;
use crate::model::MetricsApi;
use crate::naming::FIELD_MANAGER;
use crate::resources::object;

/// Keeps the registration.
pub(super) struct Registrar {
    api_services: Api<APIService>,
    roles: Api<ClusterRole>,
    service: ServiceAddress,
    owner: Option<String>,
    mode: Mode,
    metrics_api: watch::Sender<MetricsApi>,
}

impl Registrar {
    /// Says through `metrics_api` who answers for metrics.
    pub(super) fn new(client: Client, settings: &HttpsSettings, metrics_api: watch::Sender<MetricsApi>) -> Self {
        Self {
            api_services: Api::all(client.clone()),
            roles: Api::all(client),
            service: settings.service.clone(),
            owner: settings.owner.clone(),
            mode: settings.adapter,
            metrics_api,
        }
    }

    pub(super) fn changes(&self) -> Changes {
        changes_of(self.api_services.clone(), API_SERVICE)
    }

    /// Answers whether anything was written.
    pub(super) async fn tell(&self, bundle: &[u8]) -> Result<bool, UpkeepError> {
        let described = || format!("APIService {API_SERVICE}");
        let live = self.api_services.get_opt(API_SERVICE).await.map_err(UpkeepError::api("read", described()))?;
        let registration = register(live.as_ref(), &self.service, bundle, self.owner().await?);
        self.say(registration.metrics_api);
        let differs = |declared: &Value| live.as_ref().is_none_or(|live| !covers(&object(live), declared));
        let Some(declared) = registration.declared.filter(differs) else { return Ok(false) };
        tracing::info!(api_service = API_SERVICE, "applying");
        // Without force what somebody else makes meanwhile is not taken over.
        let parameters = PatchParams::apply(FIELD_MANAGER);
        let parameters = if live.is_some() { parameters.force() } else { parameters };
        let applied = self.api_services.patch(API_SERVICE, &parameters, &Patch::Apply(&declared)).await;
        applied.map_err(UpkeepError::api("apply", described()))?;
        Ok(true)
    }

    /// Says once who answers for metrics.
    fn say(&self, metrics_api: MetricsApi) {
        let is_new = *self.metrics_api.borrow() != metrics_api;
        if !is_new {
            return;
        }
        match (&metrics_api, self.mode) {
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
        let Some(name) = &self.owner else { return Ok(Ok(None)) };
        let role = self.roles.get_opt(name).await.map_err(UpkeepError::api("read", format!("ClusterRole {name}")))?;
        let role = role.filter(|role| role.metadata.deletion_timestamp.is_none());
        Ok(role.and_then(|role| role.owner_ref(&())).map(Some).ok_or(OwnerGone))
    }
}
