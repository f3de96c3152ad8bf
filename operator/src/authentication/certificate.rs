//! What a client certificate proves.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::x509::AttributeTypeAndValue;

use crate::authentication::configuration::Configuration;

/// What a client certificate proves whose key the client has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The authorities of the front proxy signed it.
    pub is_of_front_proxy: bool,
    /// The authorities of the cluster's clients signed it.
    pub is_of_client: bool,
    /// To Kubernetes, the name of the user.
    pub common_name: String,
    /// To Kubernetes, the groups.
    pub organizations: Vec<String>,
}

impl ClientCertificate {
    /// Of the chain that was shown, the client's own certificate first. `None`: there is none, or none that proves anything.
    pub fn examine(chain: &[CertificateDer<'_>], configuration: &Configuration, now: UnixTime) -> Option<Self> {
        let front_proxy = configuration.front_proxy.as_ref();
        let is_of_front_proxy = front_proxy.is_some_and(|proxy| proxy.authorities.have_signed(chain, now));
        let clients = configuration.client_authorities.as_ref();
        let is_of_client = clients.is_some_and(|authorities| authorities.have_signed(chain, now));
        if !is_of_front_proxy && !is_of_client {
            return None;
        }
        let (common_name, organizations) = subject(chain.first()?)?;
        Some(Self { is_of_front_proxy, is_of_client, common_name, organizations })
    }
}

/// The common name, of which there must be one, and the organizations.
fn subject(certificate: &[u8]) -> Option<(String, Vec<String>)> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let names: Option<Vec<_>> = parsed.subject().iter_common_name().map(text).collect();
    let organizations: Option<Vec<_>> = parsed.subject().iter_organization().map(text).collect();
    match <[String; 1]>::try_from(names?) {
        Ok([name]) if !name.is_empty() => Some((name, organizations?)),
        _ => None,
    }
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    attribute.as_str().ok().map(str::to_owned)
}
