//! Who asks: a pure function of what the connection proved and what the request says.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;

use crate::authentication::certificate::ClientCertificate;
use crate::authentication::configuration::{Configuration, FrontProxy};

/// The group of everybody whose identity is known.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
const NOT_AUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
/// Whoever administrates the whole cluster; Kubernetes lets it do everything without asking further.
const MASTERS: &str = "system:masters";

/// Somebody, as Kubernetes knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub user: String,
    /// The uid, where it is known.
    pub uid: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// To be this one, and the connection proves it.
    Proven(Identity),
    /// To be the one of this bearer token, to be reviewed.
    Token(String),
    /// Nothing that counts.
    Nothing,
}

impl Identity {
    /// With the group of all who are authenticated, unless it is said that this one is not.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        let has = |group: &str| self.groups.iter().any(|own| own == group);
        if self.user != ANONYMOUS && !has(ALL_AUTHENTICATED) && !has(NOT_AUTHENTICATED) {
            self.groups.push(ALL_AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether it is one whom Kubernetes knows.
    pub fn is_authenticated(&self) -> bool {
        self.has_group(ALL_AUTHENTICATED)
    }

    /// Whether it may do everything.
    pub fn is_master(&self) -> bool {
        self.has_group(MASTERS)
    }

    fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// Who asks. Headers that name a user count only beside a certificate of the front proxy with a name that is allowed.
pub fn claim(configuration: &Configuration, certificate: Option<&ClientCertificate>, headers: &HeaderMap) -> Claim {
    let proven = certificate.and_then(|certificate| {
        let front_proxy = configuration.front_proxy.as_ref();
        front_proxy.and_then(|proxy| on_behalf_of(proxy, certificate, headers)).or_else(|| themselves(certificate))
    });
    match (proven, bearer_token(headers)) {
        (Some(identity), _) => Claim::Proven(identity.authenticated()),
        (None, Some(token)) => Claim::Token(token),
        (None, None) => Claim::Nothing,
    }
}

fn on_behalf_of(proxy: &FrontProxy, certificate: &ClientCertificate, headers: &HeaderMap) -> Option<Identity> {
    let is_allowed = proxy.allowed_names.is_empty() || proxy.allowed_names.contains(&certificate.common_name);
    if !certificate.is_of_front_proxy || !is_allowed {
        return None;
    }
    Some(Identity {
        user: first(&proxy.username_headers, headers)?,
        uid: first(&proxy.uid_headers, headers),
        groups: all(&proxy.group_headers, headers)?,
        extra: extra(&proxy.extra_prefixes, headers)?,
    })
}

fn themselves(certificate: &ClientCertificate) -> Option<Identity> {
    let ClientCertificate { is_of_front_proxy: _, is_of_client, common_name, organizations } = certificate;
    is_of_client.then(|| Identity { user: common_name.clone(), groups: organizations.clone(), ..Identity::default() })
}

/// The first of these headers that says something.
fn first(names: &[HeaderName], headers: &HeaderMap) -> Option<String> {
    let values = names.iter().filter_map(|name| headers.get(name));
    values.filter_map(text).find(|value| !value.is_empty())
}

/// All values of all these headers. One that is no text makes the whole request a doubtful one.
fn all(names: &[HeaderName], headers: &HeaderMap) -> Option<Vec<String>> {
    names.iter().flat_map(|name| headers.get_all(name)).map(text).collect()
}

fn extra(prefixes: &[String], headers: &HeaderMap) -> Option<BTreeMap<String, Vec<String>>> {
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        let Some(key) = prefixes.iter().find_map(|prefix| name.as_str().strip_prefix(prefix.as_str())) else {
            continue;
        };
        // Names of headers are in lower case here, as Kubernetes wants keys to be.
        let key = percent_decode_str(key).decode_utf8().ok()?.into_owned();
        extra.entry(key).or_default().push(text(value)?);
    }
    Some(extra)
}

fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION).and_then(text)?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn text(value: &HeaderValue) -> Option<String> {
    std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned)
}
