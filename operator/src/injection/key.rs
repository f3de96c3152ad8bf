//! The key of the door at which the API server asks.
//!
//! The API server does not say who it is when it asks a webhook, and any Pod may reach the door. So the path has a part that cannot be
//! guessed, and that only those read who may read the MutatingWebhookConfiguration: who does not know it learns nothing of any model. The
//! configuration itself is where all operators find it; the leader writes one where there is none. A chart that does not name the field
//! leaves it alone, with Helm and with GitOps.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, WebhookClientConfig};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

/// The name of the webhook in its configuration.
pub const WEBHOOK: &str = "inject.cllm.dev";

/// The path of the door, without the key.
const PATH: &str = "/inject/";
/// Of a key, in hexadecimal digits: 128 bits.
const KEY_LENGTH: usize = 32;

/// What cannot be guessed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Another one each time.
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// Where the API server posts its reviews.
    pub fn path(&self) -> String {
        format!("{PATH}{}", self.0)
    }

    /// Whether the text is this key; how long that takes tells nothing.
    pub(super) fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// What gives the webhook this key (a strategic merge patch).
    pub(crate) fn patch(&self) -> Value {
        json!({"webhooks": [{"name": WEBHOOK, "clientConfig": {"service": {"path": self.path()}}}]})
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(…)")
    }
}

/// What the MutatingWebhookConfiguration says about the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Nothing is known of it yet.
    #[default]
    Unread,
    /// There is no webhook of ours.
    Absent,
    /// It leads to our Service, without a key.
    Keyless,
    /// This one.
    Known(Key),
}

/// What the configuration says.
pub fn registration(configuration: Option<&MutatingWebhookConfiguration>) -> Registration {
    let mut webhooks = configuration.and_then(|configuration| configuration.webhooks.as_ref()).into_iter().flatten();
    let Some(webhook) = webhooks.find(|webhook| webhook.name == WEBHOOK) else { return Registration::Absent };
    let WebhookClientConfig { service, url, ca_bundle: _ } = &webhook.client_config;
    let place = service.as_ref().and_then(|service| service.path.as_deref()).or(url.as_deref());
    let key = place.and_then(|place| place.rsplit_once(PATH)).map(|(_, key)| key);
    match key.filter(|key| key.len() == KEY_LENGTH) {
        Some(key) => Registration::Known(Key(key.to_owned())),
        None if service.is_some() => Registration::Keyless,
        None => Registration::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(client: &Value) -> Registration {
        let webhook = json!({
            "name": WEBHOOK, "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": client,
        });
        let other = json!({
            "name": "other.cllm.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"name": "a", "namespace": "b", "path": format!("/inject/{}", "a".repeat(32))}},
        });
        let configuration = json!({"metadata": {"name": "cllm-operator"}, "webhooks": [other, webhook]});
        registration(Some(&serde_json::from_value(configuration).unwrap()))
    }

    #[test]
    fn the_key_stands_in_the_path_of_our_webhook_and_a_short_one_is_none() {
        let key = Key::random();
        let service = |path: Option<&str>| json!({"service": {"name": "a", "namespace": "b", "path": path}});
        assert_eq!(of(&service(Some(&key.path()))), Registration::Known(key.clone()));
        assert_eq!(of(&json!({"url": format!("https://localhost:1{}", key.path())})), Registration::Known(key));
        for path in [None, Some("/inject"), Some("/inject/"), Some("/inject/1234")] {
            assert_eq!(of(&service(path)), Registration::Keyless, "{path:?}");
        }
        assert_eq!(of(&json!({"url": "https://localhost:1/inject"})), Registration::Absent);
        assert_eq!(registration(None), Registration::Absent);
    }

    #[test]
    fn a_key_is_another_each_time_opens_for_itself_alone_and_is_not_shown() {
        let (key, other) = (Key::random(), Key::random());
        let text = key.path().trim_start_matches(PATH).to_owned();
        assert_eq!(text.len(), KEY_LENGTH);
        assert!(key.is(&text) && !other.is(&text) && !key.is("") && !key.is(&text[1..]));
        assert!(!format!("{key:?}").contains(&text));
    }
}
