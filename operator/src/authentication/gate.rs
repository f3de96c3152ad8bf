//! The gate before everything that is not for everybody.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use kube::Client;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;

use crate::authentication::certificate::ClientCertificate;
use crate::authentication::configuration::Configuration;
use crate::authentication::identity::{Claim, Identity, claim};
use crate::authentication::review::{Attributes, ReviewError, Reviews};
use crate::https::{PeerCertificates, Refusal};

/// Finds out who asks, and whether they may.
#[derive(Clone)]
pub struct Gate {
    configuration: watch::Receiver<Option<Arc<Configuration>>>,
    reviews: Arc<Reviews>,
}

/// Somebody whose identity is known. A handler that takes one answers nobody else, which is enough for discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Identity);

impl Gate {
    /// With what [`crate::authentication::follow()`] reads.
    pub fn new(client: Client, configuration: watch::Receiver<Option<Arc<Configuration>>>) -> Self {
        Self { configuration, reviews: Arc::new(Reviews::new(client)) }
    }

    /// Lets those through who may read that.
    pub async fn authorize(&self, caller: &Caller, attributes: &Attributes) -> Result<(), Refusal> {
        let Caller(identity) = caller;
        if identity.is_master()
            || self.reviews.allows(identity, attributes).await.map_err(|error| unavailable(&error))?
        {
            return Ok(());
        }
        let Attributes { group, namespace, resource, subresource, .. } = attributes;
        Err(Refusal::forbidden(format!(
            "{resource}/{subresource}.{group} is forbidden: User \"{}\" cannot get resource \"{resource}/{subresource}\" in API group \
             \"{group}\" in the namespace \"{namespace}\"",
            identity.user
        )))
    }

    async fn identify(&self, parts: &Parts) -> Result<Caller, Refusal> {
        let Some(configuration) = self.configuration.borrow().clone() else {
            return Err(Refusal::unavailable("whom to trust has not been read yet"));
        };
        let peer = parts.extensions.get::<PeerCertificates>().cloned().unwrap_or_default();
        let certificate = ClientCertificate::examine(peer.chain(), &configuration, UnixTime::now());
        let identity = match claim(&configuration, certificate.as_ref(), &parts.headers) {
            Claim::Proven(identity) => Some(identity),
            Claim::Token(token) => self.reviews.identity(&token).await.map_err(|error| unavailable(&error))?,
            Claim::Nothing => None,
        };
        // An anonymous user of the front proxy is nobody here.
        identity.filter(Identity::is_authenticated).map(Caller).ok_or_else(Refusal::unauthorized)
    }
}

fn unavailable(error: &ReviewError) -> Refusal {
    tracing::warn!(%error, "who asks was not found out");
    Refusal::unavailable(error.to_string())
}

impl<S> FromRequestParts<S> for Caller
where
    S: AsRef<Gate> + Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        state.as_ref().identify(parts).await
    }
}
