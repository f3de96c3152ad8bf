//! Tells the API server whom to trust at the webhook.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::adapter::ServiceAddress;
use crate::controller::upkeep::changes::{Changes, changes_of};
use crate::controller::upkeep::error::UpkeepError;
use crate::https::HttpsSettings;
use crate::naming::FIELD_MANAGER;

/// Keeps the `caBundle` of a MutatingWebhookConfiguration.
pub(super) struct Authorities {
    webhooks: Api<MutatingWebhookConfiguration>,
    name: String,
    service: ServiceAddress,
}

impl Authorities {
    pub(super) fn new(client: Client, name: &str, settings: &HttpsSettings) -> Self {
        Self { webhooks: Api::all(client), name: name.to_owned(), service: settings.service.clone() }
    }

    pub(super) fn changes(&self) -> Changes {
        changes_of(self.webhooks.clone(), &self.name)
    }

    /// Answers whether anything was written: where there is no such configuration, nothing is.
    pub(super) async fn tell(&self, bundle: &[u8]) -> Result<bool, UpkeepError> {
        let name = &self.name;
        let described = || format!("MutatingWebhookConfiguration {name}");
        let live = self.webhooks.get_opt(name).await.map_err(UpkeepError::api("read", described()))?;
        let Some(declared) = live.as_ref().and_then(|live| trusting(live, &self.service, bundle)) else {
            return Ok(false);
        };
        tracing::info!(webhook = %name, "telling which authorities to trust");
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.webhooks.patch(name, &parameters, &Patch::Apply(&declared)).await;
        applied.map_err(UpkeepError::api("change", described()))?;
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
