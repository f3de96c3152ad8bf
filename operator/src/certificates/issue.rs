//! Makes keys and certificates.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::certificates::certificate::{Certificate, UnreadableCertificate};
use crate::certificates::decide::{Change, Rules};
use crate::certificates::stored::{PrivateKeyPem, Stored};

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A key or a signature.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made cannot be read.
    #[error("cannot read the certificate that was made: {0}")]
    Read(#[from] UnreadableCertificate),
}

/// What is stored after a change that was decided. Without `stored` it is always everything.
pub fn carry_out(change: Change, stored: Option<&Stored>, now: i64, rules: &Rules) -> Result<Stored, IssueError> {
    let next = match (change, stored) {
        (Change::Everything, _) | (_, None) => everything(now, rules)?,
        (Change::NextAuthority, Some(stored)) => next_authority(stored, now, rules)?,
        (Change::Serving, Some(stored)) => next_serving(stored, now, rules)?,
        (Change::Forget, Some(stored)) => stored.clone(),
    };
    Ok(next.without_what_is_over(now, rules.overlap))
}

fn everything(now: i64, rules: &Rules) -> Result<Stored, IssueError> {
    let (authority, authority_key) = authority(now, rules)?;
    let (serving, serving_key) = serving(&authority, &authority_key, now, rules)?;
    Ok(Stored { authority, authority_key, older: Vec::new(), serving, serving_key, previous: Vec::new() })
}

fn next_authority(stored: &Stored, now: i64, rules: &Rules) -> Result<Stored, IssueError> {
    let (authority, authority_key) = authority(now, rules)?;
    let older = std::iter::once(&stored.authority).chain(&stored.older).cloned().collect();
    Ok(Stored { authority, authority_key, older, ..stored.clone() })
}

fn next_serving(stored: &Stored, now: i64, rules: &Rules) -> Result<Stored, IssueError> {
    let (serving, serving_key) = serving(&stored.authority, &stored.authority_key, now, rules)?;
    let previous = std::iter::once(&stored.serving).chain(&stored.previous).cloned().collect();
    Ok(Stored { serving, serving_key, previous, ..stored.clone() })
}

/// An authority with a name that no other has: by its name it is known who signed what.
fn authority(now: i64, rules: &Rules) -> Result<(Certificate, PrivateKeyPem), IssueError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("cllm-operator authority {now} {:08x}", rand::random::<u32>()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = moment(begins(now, rules.authority_lifetime)).into();
    params.not_after = moment(ends(now, rules.authority_lifetime)).into();
    let made = params.self_signed(&key)?;
    Ok((Certificate::parse(made.der().clone())?, PrivateKeyPem::new(key.serialize_pem())))
}

fn serving(
    authority: &Certificate,
    authority_key: &PrivateKeyPem,
    now: i64,
    rules: &Rules,
) -> Result<(Certificate, PrivateKeyPem), IssueError> {
    let issuer = Issuer::from_ca_cert_der(authority.der(), KeyPair::from_pem(authority_key.expose())?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(rules.names.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name = common_name("cllm-operator");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = moment(begins(now, rules.serving_lifetime)).into();
    // What outlived its authority would be trusted by nobody.
    params.not_after = moment(ends(now, rules.serving_lifetime).min(authority.not_after())).into();
    let made = params.signed_by(&key, &issuer)?;
    Ok((Certificate::parse(made.der().clone())?, PrivateKeyPem::new(key.serialize_pem())))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A little in the past: the clocks of others may be behind.
fn begins(now: i64, lifetime: Duration) -> i64 {
    let margin = (lifetime.as_secs() / 100).min(3600);
    now.saturating_sub_unsigned(margin)
}

fn ends(now: i64, lifetime: Duration) -> i64 {
    now.saturating_add_unsigned(lifetime.as_secs())
}

fn moment(second: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(second).unwrap_or_default())
}
