//! How the API server comes to know of the adapter: an `APIService`, which only one provider can have. Pure.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, ServiceReference};
use serde_json::{Value, json};

use crate::adapter::{GROUP, VERSION};
use crate::model::MetricsApi;
use crate::naming::FIELD_MANAGER;

/// The name of the `APIService`: version and group.
pub const API_SERVICE: &str = "v1beta2.custom.metrics.k8s.io";

/// Whether metrics are offered to autoscalers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Where nobody else does.
    Auto,
    /// Yes. Where somebody else does, that is reported as an error and left as it is.
    True,
    /// No.
    False,
}

/// Where the API server finds the adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The namespace of the Service.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The port of it that leads to the HTTPS port.
    pub port: u16,
    /// What names within the cluster end with.
    pub cluster_domain: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Who answers, as it stands.
    pub metrics_api: MetricsApi,
    /// What is to be applied, if anything.
    pub declared: Option<Value>,
}

impl ServiceAddress {
    /// The host names by which the Service is called.
    pub fn host_names(&self) -> [String; 4] {
        let Self { namespace, name, port: _, cluster_domain } = self;
        [
            name.clone(),
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.{cluster_domain}"),
        ]
    }

    /// Whether a reference of the API server leads here.
    pub fn is(&self, namespace: Option<&str>, name: Option<&str>) -> bool {
        namespace == Some(self.namespace.as_str()) && name == Some(self.name.as_str())
    }
}

/// What is to be done about the `APIService`, of which there is at most one. One that leads to another Service is somebody else's and is
/// left alone. Ours is declared with the authorities of the moment. There is none without authorities to trust (`bundle`), and no
/// new one without an owner, where one is wanted: it would outlive the operator, and one that leads nowhere holds up the deletion of
/// every namespace.
pub fn register(
    live: Option<&APIService>,
    address: &ServiceAddress,
    bundle: &[u8],
    owner: Result<Option<OwnerReference>, OwnerGone>,
) -> Registration {
    let spec = live.and_then(|live| live.spec.as_ref());
    let service = spec.and_then(|spec| spec.service.as_ref());
    let nothing = |metrics_api| Registration { metrics_api, declared: None };
    match (live, owner) {
        (Some(live), _) if !leads_here(service, address) => nothing(MetricsApi::Foreign { owner: provider(live) }),
        (Some(live), _) if live.metadata.deletion_timestamp.is_some() => nothing(MetricsApi::Served),
        (live, Ok(owner)) if !bundle.is_empty() => {
            Registration { metrics_api: MetricsApi::Served, declared: Some(declaration(live, address, bundle, owner)) }
        }
        // Also one that has lost its owner: it is about to be collected.
        (_, Ok(_) | Err(OwnerGone)) => nothing(MetricsApi::Served),
    }
}

/// What owns the `APIService` is not there (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerGone;

fn leads_here(service: Option<&ServiceReference>, address: &ServiceAddress) -> bool {
    service.is_some_and(|service| address.is(service.namespace.as_deref(), service.name.as_deref()))
}

fn provider(live: &APIService) -> String {
    let service = live.spec.as_ref().and_then(|spec| spec.service.clone()).unwrap_or_default();
    match (service.namespace, service.name) {
        (Some(namespace), Some(name)) => format!("Service {namespace}/{name}"),
        _ => "the API server itself".to_owned(),
    }
}

fn declaration(
    live: Option<&APIService>,
    address: &ServiceAddress,
    bundle: &[u8],
    owner: Option<OwnerReference>,
) -> Value {
    let mut declared = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {
            "name": API_SERVICE,
            "labels": {"app.kubernetes.io/part-of": "cllm", "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
        },
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 200,
            "service": {"namespace": address.namespace, "name": address.name, "port": address.port},
            "caBundle": ByteString(bundle.to_vec()),
        },
    });
    if let Some(live) = live {
        // Another object that took the name meanwhile is refused.
        declared["metadata"]["uid"] = json!(live.metadata.uid);
        if live.spec.as_ref().is_some_and(|spec| spec.insecure_skip_tls_verify == Some(true)) {
            declared["spec"]["insecureSkipTLSVerify"] = json!(false);
        }
    }
    declared
}
