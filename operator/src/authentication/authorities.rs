//! Authorities that sign client certificates.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

/// Authorities that sign client certificates; at least one.
#[derive(Clone)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    count: usize,
}

impl Authorities {
    /// From PEM. `None` if there is no certificate in it that can be an authority: then nobody is trusted.
    pub fn read(pem: &str) -> Option<Self> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let mut roots = RootCertStore::empty();
        let (count, _) = roots.add_parsable_certificates(certificates.ok()?);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build();
        Some(Self { verifier: verifier.ok()?, count })
    }

    /// Whether one of them signed that chain, the certificate of the client itself first, and it is valid at that time for a client.
    pub fn have_signed(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        match chain {
            [] => false,
            [own, intermediates @ ..] => self.verifier.verify_client_cert(own, intermediates, now).is_ok(),
        }
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} authorities", self.count)
    }
}
