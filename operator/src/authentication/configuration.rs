//! Whom the API server says to trust.

use std::collections::BTreeMap;

use axum::http::HeaderName;

use crate::authentication::authorities::Authorities;

/// What the ConfigMap says, as far as it can be understood; what cannot be is left out, and so trusted by nobody.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Who may ask on behalf of others.
    pub front_proxy: Option<FrontProxy>,
    /// Who signs the certificates of clients that ask for themselves.
    pub client_authorities: Option<Authorities>,
}

/// Who may ask on behalf of others, and in which headers they say of whom.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Who signs their certificates.
    pub authorities: Authorities,
    /// The common names that they may have; empty: any.
    pub allowed_names: Vec<String>,
    /// Headers with the name of the user; the first that is there counts.
    pub username_headers: Vec<HeaderName>,
    /// Headers with the uid of the user.
    pub uid_headers: Vec<HeaderName>,
    /// Headers with groups; all count.
    pub group_headers: Vec<HeaderName>,
    /// What headers with anything further begin with, in lower case.
    pub extra_prefixes: Vec<String>,
}

impl Configuration {
    /// Reads the data of the ConfigMap.
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        Self {
            front_proxy: FrontProxy::read(data),
            client_authorities: data.get("client-ca-file").and_then(|pem| Authorities::read(pem)),
        }
    }
}

impl FrontProxy {
    fn read(data: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            authorities: Authorities::read(data.get("requestheader-client-ca-file")?)?,
            allowed_names: list(data, "requestheader-allowed-names")?,
            username_headers: headers(data, "requestheader-username-headers")?,
            uid_headers: headers(data, "requestheader-uid-headers")?,
            group_headers: headers(data, "requestheader-group-headers")?,
            extra_prefixes: lower_case(list(data, "requestheader-extra-headers-prefix")?),
        })
    }
}

/// A JSON list of words; empty where the key is absent, `None` where its value cannot be understood.
fn list(data: &BTreeMap<String, String>, key: &str) -> Option<Vec<String>> {
    match data.get(key) {
        None => Some(Vec::new()),
        Some(text) => serde_json::from_str(text).ok(),
    }
}

fn headers(data: &BTreeMap<String, String>, key: &str) -> Option<Vec<HeaderName>> {
    list(data, key)?.iter().map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect()
}

fn lower_case(words: Vec<String>) -> Vec<String> {
    words.into_iter().map(|word| word.to_ascii_lowercase()).filter(|word| !word.is_empty()).collect()
}
