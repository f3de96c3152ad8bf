//! The stable address in front of the replicas.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::ValidModel;
use crate::naming::{model_labels, selector_labels};

/// The Service; it has the name of the model.
pub(super) fn service(model: &ValidModel) -> Service {
    let labels = model_labels(&model.owner.name);
    let mut metadata = model.owner.child(&model.owner.name, &labels);
    metadata.annotations = Some(model.spec.service.annotations.clone()).filter(|annotations| !annotations.is_empty());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            selector: Some(selector_labels(&labels)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: i32::from(model.spec.service.port),
                target_port: Some(IntOrString::String("http".to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Where the OpenAI API answers within the cluster.
pub(super) fn url(model: &ValidModel) -> String {
    let name = &model.owner.name;
    let host =
        model.owner.namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{name}.{namespace}.svc"));
    match model.spec.service.port {
        80 => format!("http://{host}"),
        port => format!("http://{host}:{port}"),
    }
}
