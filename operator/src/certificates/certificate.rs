//! What a certificate says, as far as the rules ask: who it is, who signed it, for which names and how long.

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// A certificate, with the facts that the rules look at. Times are seconds since 1970, as precise as certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    facts: Facts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    names: BTreeSet<String>,
    not_before: i64,
    not_after: i64,
}

/// It cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no X.509 certificate in DER")]
pub struct UnreadableCertificate;

impl Certificate {
    /// Reads one.
    pub fn parse(der: CertificateDer<'static>) -> Result<Self, UnreadableCertificate> {
        let facts = facts(&der)?;
        Ok(Self { der, facts })
    }

    /// As it goes over the wire.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The host names that it is for.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.facts.names
    }

    /// The last second of its life.
    pub fn not_after(&self) -> i64 {
        self.facts.not_after
    }

    /// Whether it names that authority as its issuer. No two authorities of ours have the same name.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        self.facts.issuer == authority.facts.subject
    }

    /// From when on it is to be renewed: at two thirds of its life.
    pub fn renewed_from(&self) -> i64 {
        let life = self.facts.not_after.saturating_sub(self.facts.not_before);
        self.facts.not_before.saturating_add(life / 3 * 2 + life % 3 * 2 / 3)
    }
}

fn facts(der: &[u8]) -> Result<Facts, UnreadableCertificate> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(der).map_err(|_| UnreadableCertificate)?;
    if !rest.is_empty() {
        return Err(UnreadableCertificate);
    }
    let validity = parsed.validity();
    Ok(Facts {
        subject: parsed.subject().as_raw().to_vec(),
        issuer: parsed.issuer().as_raw().to_vec(),
        names: dns_names(&parsed),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

fn dns_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let dns =
        names.filter_map(|name| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None });
    dns.collect()
}
