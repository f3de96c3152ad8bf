//! The pages of Pods, and how they are reached.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// The name of the port that has them.
pub(crate) const METRICS_PORT_NAME: &str = "metrics";
/// A page is short, and lies in memory.
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The client for pages: short timeouts, no proxy, no redirect.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(PAGE_TIMEOUT).no_proxy().redirect(reqwest::redirect::Policy::none()).build()
}

/// The address of a Pod, as it stands in a URL.
pub(crate) fn address(pod: &Pod) -> Option<String> {
    let address = pod.status.as_ref()?.pod_ip.clone()?;
    Some(if address.contains(':') { format!("[{address}]") } else { address })
}
