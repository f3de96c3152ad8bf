//! Who changed what, as the API server of a cluster with nodes has written it down.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::Error;

/// A call that changed something, or tried to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The user, for a service account `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The plural, with a subresource behind a slash.
    pub resource: String,
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// Empty when the server chose it.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// When the call came, RFC 3339.
    pub time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    user: User,
    object_ref: Option<Object>,
    response_status: Option<Response>,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Response {
    code: u16,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

/// All calls of the user, in their order.
pub(crate) fn writes_of(log: &Path, user: &str) -> Result<Vec<Write>, Error> {
    let text = fs::read_to_string(log).map_err(Error::io("read the audit log"))?;
    // The last line may be half written: it is there the next time.
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    Ok(entries.filter(|entry| entry.user.username == user).map(Write::from).collect())
}

impl From<Entry> for Write {
    fn from(entry: Entry) -> Self {
        let object = entry.object_ref.unwrap_or_default();
        let separator = if object.subresource.is_empty() { "" } else { "/" };
        Self {
            user: entry.user.username,
            verb: entry.verb,
            resource: format!("{}{separator}{}", object.resource, object.subresource),
            namespace: object.namespace,
            name: object.name,
            code: entry.response_status.map(|response| response.code).unwrap_or_default(),
            time: entry.request_received_timestamp,
        }
    }
}
