//! Writes a status, if it differs from the one that the API server has.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::controller::error::Error;
use crate::naming::FIELD_MANAGER;

/// Writes the status by server-side apply on the status subresource.
pub(super) async fn write<K, S>(api: &Api<K>, resource: &K, previous: &S, next: &S) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    let (previous, next) = (json!(previous), json!(next));
    if previous == next {
        return Ok(());
    }
    let name = resource.name_any();
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": resource.uid()},
        "status": next,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await;
    written.map(|_| ()).map_err(Error::api("write the status of", format!("{} {name}", K::kind(&()))))
}
