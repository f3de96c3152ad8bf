//! How a registry wants to be asked: basic authentication, or a token from the service that its challenge names
//! (distribution.github.io/distribution/spec/auth/token).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use url::Url;

use crate::access::{Login, Secret};
use crate::error::{Result, StorageError};
use crate::http::{Ask, Http, describe};

/// `Bearer …`, marked so that nothing prints it.
pub(crate) fn bearer(token: &Secret) -> Result<HeaderValue> {
    secret_header(&format!("Bearer {}", token.reveal()))
}

/// What a challenge asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        let value = |name: &str| {
            let start = rest.find(&format!("{name}=\""))? + name.len() + 2;
            rest[start..].split('"').next().map(str::to_owned)
        };
        let realm = scheme.eq_ignore_ascii_case("bearer").then(|| value("realm")).flatten()?;
        Some(Self::Bearer { realm, service: value("service"), scope: value("scope") })
    }

    /// The header that answers the challenge.
    pub(super) async fn answer(&self, http: &Http, login: Option<&Login>, advice: &str) -> Result<Option<HeaderValue>> {
        let basic = login.map(basic).transpose()?;
        match self {
            Self::Basic => Ok(basic),
            Self::Bearer { realm, service, scope } => {
                let mut url = Url::parse(realm).map_err(|error| {
                    StorageError::unexpected("the registry", format!("a token service without address ({error})"))
                })?;
                let service = service.iter().map(|service| ("service", service));
                url.query_pairs_mut().extend_pairs(service.chain(scope.iter().map(|scope| ("scope", scope))));
                token(http, &url, basic, advice).await.map(Some)
            }
        }
    }
}

#[derive(Deserialize)]
struct Issued {
    #[serde(alias = "access_token")]
    token: String,
}

async fn token(http: &Http, url: &Url, basic: Option<HeaderValue>, advice: &str) -> Result<HeaderValue> {
    let asked = describe(&Method::GET, url);
    let answer = http.ask(Ask { method: Method::GET, url, headers: HeaderMap::new(), authorization: basic }).await?;
    if !answer.status.is_success() {
        return Err(answer.refusal(&asked, advice));
    }
    // the text of a parse error may quote the token
    let issued: Issued = serde_json::from_slice(&answer.bytes(&asked).await?)
        .map_err(|_| StorageError::unexpected(&asked, "no JSON with a token"))?;
    secret_header(&format!("Bearer {}", issued.token))
}

fn basic(login: &Login) -> Result<HeaderValue> {
    let pair = format!("{}:{}", login.username.reveal(), login.password.reveal());
    secret_header(&format!("Basic {}", STANDARD.encode(pair)))
}

fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        StorageError::Configuration("a credential has characters that no HTTP header may have; correct it".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (header, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/token",service="r",scope="repository:a/b:pull""#,
                Some(bearer("https://a/token", Some("r"), Some("repository:a/b:pull"))),
            ),
            (r#"bearer realm="https://a""#, Some(bearer("https://a", None, None))),
            ("Negotiate", None),
            ("Bearer", None),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }
}
