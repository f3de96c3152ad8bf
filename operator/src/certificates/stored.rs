//! What the Secret holds where the operator makes its certificates itself.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use pem::{EncodeConfig, LineEnding, Pem};

use crate::certificates::certificate::{Certificate, UnreadableCertificate};
use crate::certificates::keys;
use crate::certificates::pair::{UnusablePair, certificates, pair_of};

const FORMAT: EncodeConfig = EncodeConfig::new().set_line_ending(LineEnding::LF);

/// A private key, PKCS #8 as PEM. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(String);

/// All that is needed to serve, to be trusted, and to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The newest authority; it signs.
    pub authority: Certificate,
    /// Its key.
    pub authority_key: PrivateKeyPem,
    /// Authorities that are trusted still, newest first.
    pub older: Vec<Certificate>,
    /// What is served.
    pub serving: Certificate,
    /// Its key.
    pub serving_key: PrivateKeyPem,
    /// What was served before and has not expired: a replica that reads late serves it still.
    pub previous: Vec<Certificate>,
}

/// What cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum UnusableSecret {
    /// A key is missing.
    #[error("the key {0} is missing")]
    Missing(&'static str),
    /// Something does not belong together.
    #[error("{key}: {source}")]
    Pair {
        /// Of the Secret.
        key: &'static str,
        /// What is wrong.
        source: UnusablePair,
    },
    /// Something is no certificate.
    #[error("{key}: {source}")]
    Certificate {
        /// Of the Secret.
        key: &'static str,
        /// What is wrong.
        source: UnreadableCertificate,
    },
}

impl PrivateKeyPem {
    /// A key as PEM.
    pub fn new(pem: String) -> Self {
        Self(pem)
    }

    /// The text, for whoever signs with it or stores it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKeyPem(…)")
    }
}

impl Stored {
    /// Reads a Secret; `None` if nothing was stored yet.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Option<Self>, UnusableSecret> {
        let get = |key: &'static str| {
            let value = data.get(key).map(|value| value.0.as_slice()).filter(|value| !value.is_empty());
            value.ok_or(UnusableSecret::Missing(key))
        };
        if get(keys::CERTIFICATE).is_err() && get(keys::AUTHORITIES).is_err() {
            return Ok(None);
        }
        let (chain, key) = (get(keys::CERTIFICATE)?, get(keys::PRIVATE_KEY)?);
        let (authorities, authority_key) = (get(keys::AUTHORITIES)?, get(keys::AUTHORITY_KEY)?);
        check_pair(keys::CERTIFICATE, chain, key)?;
        // Of several certificates the first is that of the key.
        check_pair(keys::AUTHORITIES, authorities, authority_key)?;
        let mut authorities = parse(keys::AUTHORITIES, authorities)?.into_iter();
        let mut serving = parse(keys::CERTIFICATE, chain)?.into_iter();
        Ok(Some(Self {
            authority: authorities.next().ok_or(UnusableSecret::Missing(keys::AUTHORITIES))?,
            authority_key: text(authority_key),
            older: authorities.collect(),
            serving: serving.next().ok_or(UnusableSecret::Missing(keys::CERTIFICATE))?,
            serving_key: text(key),
            previous: parse(keys::PREVIOUS, get(keys::PREVIOUS).unwrap_or_default())?,
        }))
    }

    /// As it is written.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let Self { authority: _, authority_key, older: _, serving, serving_key, previous } = self;
        let mut data = BTreeMap::from([
            (keys::CERTIFICATE.to_owned(), ByteString(as_pem([serving]).into_bytes())),
            (keys::PRIVATE_KEY.to_owned(), ByteString(serving_key.0.clone().into_bytes())),
            (keys::AUTHORITIES.to_owned(), ByteString(self.bundle())),
            (keys::AUTHORITY_KEY.to_owned(), ByteString(authority_key.0.clone().into_bytes())),
        ]);
        if !previous.is_empty() {
            data.insert(keys::PREVIOUS.to_owned(), ByteString(as_pem(previous).into_bytes()));
        }
        data
    }

    /// The authorities to trust, PEM, newest first.
    pub fn bundle(&self) -> Vec<u8> {
        as_pem(std::iter::once(&self.authority).chain(&self.older)).into_bytes()
    }
}

fn check_pair(key: &'static str, chain: &[u8], private_key: &[u8]) -> Result<(), UnusableSecret> {
    pair_of(chain, private_key).map(drop).map_err(|source| UnusableSecret::Pair { key, source })
}

fn parse(key: &'static str, pem: &[u8]) -> Result<Vec<Certificate>, UnusableSecret> {
    let parsed = certificates(pem).map_err(|source| UnusableSecret::Pair { key, source })?;
    let read = |der| Certificate::parse(der).map_err(|source| UnusableSecret::Certificate { key, source });
    parsed.into_iter().map(read).collect()
}

fn text(pem: &[u8]) -> PrivateKeyPem {
    PrivateKeyPem(String::from_utf8_lossy(pem).into_owned())
}

fn as_pem<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> String {
    let blocks = certificates.into_iter().map(|certificate| Pem::new("CERTIFICATE", certificate.der().to_vec()));
    blocks.map(|block| pem::encode_config(&block, FORMAT)).collect()
}
