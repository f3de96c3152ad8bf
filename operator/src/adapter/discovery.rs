//! What the API server asks before it sends anybody: which groups, versions and metrics there are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIGroupList, APIResource, APIResourceList, GroupVersionForDiscovery,
};

use crate::adapter::metric::Metric;
use crate::adapter::{GROUP, MODELS, PODS, VERSION};

/// All groups: the one that there is.
pub fn api_groups() -> APIGroupList {
    APIGroupList { groups: vec![api_group()] }
}

/// The group, with its only version.
pub fn api_group() -> APIGroup {
    let version = GroupVersionForDiscovery { group_version: format!("{GROUP}/{VERSION}"), version: VERSION.to_owned() };
    APIGroup {
        name: GROUP.to_owned(),
        preferred_version: Some(version.clone()),
        versions: vec![version],
        server_address_by_client_cidrs: None,
    }
}

/// All metrics, of each kind of object that has them.
pub fn api_resources() -> APIResourceList {
    let resource = |object: &str, metric: Metric| APIResource {
        name: format!("{object}/{}", metric.name()),
        namespaced: true,
        kind: "MetricValueList".to_owned(),
        verbs: vec!["get".to_owned()],
        ..APIResource::default()
    };
    let resources = [PODS, MODELS].into_iter().flat_map(|object| Metric::ALL.map(|metric| resource(object, metric)));
    APIResourceList { group_version: format!("{GROUP}/{VERSION}"), resources: resources.collect() }
}
