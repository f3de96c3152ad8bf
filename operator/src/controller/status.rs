//! Writes a status, if it differs from the one that the API server has, and tells what changed.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::events::Notice;
use crate::naming::FIELD_MANAGER;

/// Writes the status by server-side apply on the status subresource. Events follow a write: a change that was not written is found again.
pub(super) async fn write<K, S>(
    api: &Api<K>,
    resource: &K,
    (previous, next): (&S, &S),
    told: fn(&S, &S) -> Vec<Notice>,
    context: &Context,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    let notices = told(previous, next);
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
    written.map_err(Error::api("write the status of", format!("{} {name}", K::kind(&()))))?;
    context.metrics.wrote_status(&K::kind(&()));
    for notice in notices {
        let reason = notice.reason.clone();
        // An Event is for people: that it could not be written holds nothing up.
        if let Err(error) = publish(resource, notice, context).await {
            tracing::warn!(%reason, %error, "an Event was not written");
        }
    }
    Ok(())
}

/// Writes an Event on the resource.
pub(super) async fn publish<K: Resource<DynamicType = ()>>(
    resource: &K,
    notice: Notice,
    context: &Context,
) -> kube::Result<()> {
    let Notice { is_warning, reason, action, note } = notice;
    let type_ = if is_warning { EventType::Warning } else { EventType::Normal };
    let event = Event { type_, reason, note: Some(note), action: action.to_owned(), secondary: None };
    context.recorder.publish(&event, &resource.object_ref(&())).await
}
