//! A certificate chain and its private key, as PEM, checked to belong together.

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A certificate and a key that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePair {
    /// No certificate, or text that is none.
    #[error("it has no certificate as PEM")]
    NoCertificate,
    /// No key, or text that is none.
    #[error("it has no private key as PEM")]
    NoPrivateKey,
    /// They do not belong together, or are of a kind that is not supported.
    #[error("certificate and private key cannot be used together: {0}")]
    Mismatch(rustls::Error),
}

/// All certificates of a PEM text; one that is damaged makes all of it unusable.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, UnusablePair> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    parsed.map_err(|_| UnusablePair::NoCertificate)
}

/// What can be served.
pub fn pair_of(chain: &[u8], private_key: &[u8]) -> Result<CertifiedKey, UnusablePair> {
    let chain = certificates(chain)?;
    if chain.is_empty() {
        return Err(UnusablePair::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(private_key).map_err(|_| UnusablePair::NoPrivateKey)?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(UnusablePair::Mismatch)
}
