//! That one of the objects has changed.

use std::pin::Pin;

use futures::stream::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};

pub(super) type Changes = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// Something for each change of the object.
pub(super) fn changes_of<K>(api: Api<K>, name: &str) -> Changes
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let changes = watch_object(api, name).default_backoff();
    let name = name.to_owned();
    Box::pin(changes.filter_map(move |change| {
        let seen = change.inspect_err(|error| tracing::warn!(%name, %error, "not watched"));
        std::future::ready(seen.ok().map(drop))
    }))
}
