//! The certificate that every replica serves over HTTPS, and the authority that the API server is told to trust.
//!
//! One Secret holds both. The leader makes them and renews them at two thirds of their life ([`decide()`] says what is to be done,
//! [`carry_out`] does it); all replicas read the Secret and take up what is new without a restart ([`follow()`]). An authority is published
//! before anything that it signed is served, and stays published until nothing that it signed can be served any more: so at every moment
//! every replica is trusted, however late it reads. Or somebody else (cert-manager) keeps the Secret, and nothing is written.

mod certificate;
mod decide;
mod follow;
mod issue;
mod pair;
mod stored;

pub use certificate::{Certificate, UnreadableCertificate};
pub use decide::{Change, Decision, Rules, decide};
pub use follow::{Served, follow};
pub use issue::{IssueError, carry_out};
pub use pair::{UnusablePair, certificates, pair_of};
pub use stored::{PrivateKeyPem, Stored, UnusableSecret};

/// Keys of the Secret.
pub mod keys {
    /// The certificate that is served, PEM; with those between it and the authority, if there are any.
    pub const CERTIFICATE: &str = "tls.crt";
    /// Its private key, PEM.
    pub const PRIVATE_KEY: &str = "tls.key";
    /// The authorities to trust, PEM, the newest first.
    pub const AUTHORITIES: &str = "ca.crt";
    /// The private key of the newest authority, PEM. Only where the operator makes them itself.
    pub const AUTHORITY_KEY: &str = "ca.key";
    /// Certificates that were served and have not expired, PEM.
    pub const PREVIOUS: &str = "previous.crt";
}

/// Who keeps the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The leader of the operators, by these rules.
    Own(Rules),
    /// Somebody else, as cert-manager does: it is only read.
    Given,
}
