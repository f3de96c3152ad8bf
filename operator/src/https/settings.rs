//! What is served over HTTPS, and how the API server learns of it.

use crate::adapter::{Mode, ServiceAddress};
use crate::certificates::Source;
use crate::https::Closing;

/// What is served over HTTPS, and how the API server learns of it.
#[derive(Clone, Debug)]
pub struct HttpsSettings {
    /// Where the API server finds it: the Service in front of all replicas.
    pub service: ServiceAddress,
    /// The Secret with the certificate, in the namespace of the Service.
    pub secret: String,
    /// Who keeps that Secret.
    pub certificates: Source,
    /// Whether metrics are offered to autoscalers.
    pub adapter: Mode,
    /// The MutatingWebhookConfiguration through which the API server asks about sidecars; absent: nobody asks.
    pub injection_webhook: Option<String>,
    /// The ClusterRole that owns what is registered, so that it goes with it.
    pub owner: Option<String>,
    /// How the port closes.
    pub closing: Closing,
}
