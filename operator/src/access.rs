//! How a Pod reaches a hub, S3 or a registry: credentials and certificates as mounted files, flags that name them, and the egress that
//! its NetworkPolicy must allow. Pods that download nothing talk to nobody.

use cllm_crds::Access;
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, SecretVolumeSource, Volume, VolumeMount};
use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::Arguments;

const CREDENTIALS_FOLDER: &str = "/credentials";
const CERTIFICATES_FOLDER: &str = "/certificates";
/// Readable by the group of the Pod (`fsGroup`), and by nobody else.
const SECRET_MODE: i32 = 0o440;

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Model,
    Dataset,
    Output,
}

/// The access of a remote place in a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountedAccess<'a> {
    pub(crate) role: Role,
    pub(crate) access: &'a Access,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Output => "output",
        }
    }

    /// Before the name of its flags: a server has only a model.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "dataset-",
            Self::Output => "output-",
        }
    }
}

impl MountedAccess<'_> {
    /// Secret and ConfigMap as volumes.
    pub(crate) fn volumes(&self) -> Vec<Volume> {
        let role = self.role.as_str();
        let secret = self.access.secret_ref.as_ref().map(|secret| Volume {
            name: format!("credentials-{role}"),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.name.clone()),
                default_mode: Some(SECRET_MODE),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
        let certificates = self.access.ca_bundle_ref.as_ref().map(|bundle| Volume {
            name: format!("certificates-{role}"),
            config_map: Some(ConfigMapVolumeSource { name: bundle.name.clone(), ..ConfigMapVolumeSource::default() }),
            ..Volume::default()
        });
        secret.into_iter().chain(certificates).collect()
    }

    /// Where they are mounted.
    pub(crate) fn mounts(&self) -> Vec<VolumeMount> {
        let role = self.role.as_str();
        let mount = |name: String, mount_path: String| VolumeMount {
            name,
            mount_path,
            read_only: Some(true),
            ..VolumeMount::default()
        };
        let secret = self.access.secret_ref.as_ref();
        let secret = secret.map(|_| mount(format!("credentials-{role}"), format!("{CREDENTIALS_FOLDER}/{role}")));
        let bundle = self.access.ca_bundle_ref.as_ref();
        let bundle = bundle.map(|_| mount(format!("certificates-{role}"), format!("{CERTIFICATES_FOLDER}/{role}")));
        secret.into_iter().chain(bundle).collect()
    }

    /// The flags.
    pub(crate) fn add_to(&self, arguments: Arguments) -> Arguments {
        let (role, prefix, access) = (self.role.as_str(), self.role.prefix(), self.access);
        let credentials = access.secret_ref.as_ref().map(|_| format!("{CREDENTIALS_FOLDER}/{role}"));
        let bundle = access.ca_bundle_ref.as_ref().map(|bundle| format!("{CERTIFICATES_FOLDER}/{role}/{}", bundle.key));
        arguments
            .with_optional(&format!("{prefix}endpoint"), access.endpoint.as_ref())
            .with_optional(&format!("{prefix}region"), access.region.as_ref())
            .with_optional(&format!("{prefix}credentials"), credentials)
            .with_optional(&format!("{prefix}ca-bundle"), bundle)
            .with_optional(&format!("{prefix}proxy"), access.proxy.as_ref())
    }
}

/// What Pods that download from these places, or upload to them, may talk to; `None` where there are none.
///
/// A NetworkPolicy knows addresses and ports, not names. So: DNS; TCP to the port of each place (of its proxy, where it has one), wherever
/// that is; and, where the place has a name of the cluster itself, every Pod of the cluster, since a Service may lead to another port.
pub(crate) fn egress<'a>(places: impl Iterator<Item = (&'a str, &'a Access)>) -> Option<Vec<NetworkPolicyEgressRule>> {
    let targets: Vec<Target> = places.map(|(uri, access)| Target::of(uri, access)).collect();
    if targets.is_empty() {
        return None;
    }
    let mut rules = vec![dns()];
    let mut ports: Vec<i32> = targets.iter().filter(|target| !target.is_in_cluster).map(|target| target.port).collect();
    if targets.iter().any(|target| target.asks_elsewhere) {
        // hubs and registries send to storage and token services under other names
        ports.push(443);
    }
    ports.sort_unstable();
    ports.dedup();
    if !ports.is_empty() {
        let ports = ports.into_iter().map(|number| port(number, "TCP")).collect();
        rules.push(NetworkPolicyEgressRule { ports: Some(ports), to: None });
    }
    if targets.iter().any(|target| target.is_in_cluster) {
        let everywhere =
            NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
        rules.push(NetworkPolicyEgressRule { ports: None, to: Some(vec![everywhere]) });
    }
    Some(rules)
}

/// Names are looked up.
pub(crate) fn dns() -> NetworkPolicyEgressRule {
    let ports = ["UDP", "TCP"].map(|protocol| port(53, protocol)).to_vec();
    NetworkPolicyEgressRule { ports: Some(ports), to: None }
}

/// What is spoken to for one place.
struct Target {
    port: i32,
    is_in_cluster: bool,
    asks_elsewhere: bool,
}

impl Target {
    fn of(uri: &str, access: &Access) -> Self {
        let address = access.proxy.as_deref().or(access.endpoint.as_deref());
        let authority = uri.strip_prefix("oci://").and_then(|rest| rest.split('/').next());
        let (host, port) = match address {
            Some(address) => host_and_port(address),
            None => authority.map_or(("", 443), |authority| split_port(authority, 443)),
        };
        let suffix = host.rsplit('.').next().unwrap_or_default();
        let is_in_cluster = suffix == host || suffix == "svc" || host.ends_with(".cluster.local");
        let is_in_cluster = is_in_cluster && !host.is_empty();
        Self { port, is_in_cluster, asks_elsewhere: access.proxy.is_none() && !uri.starts_with("s3://") }
    }
}

fn host_and_port(address: &str) -> (&str, i32) {
    let (scheme, rest) = address.split_once("://").unwrap_or(("https", address));
    let authority = rest.split('/').next().unwrap_or_default();
    split_port(authority, if scheme == "http" { 80 } else { 443 })
}

fn split_port(authority: &str, default: i32) -> (&str, i32) {
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(default)),
        None => (authority, default),
    }
}

fn port(number: i32, protocol: &str) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(number)), protocol: Some(protocol.to_owned()), end_port: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_talked_to_follows_from_the_address() {
        let access = |endpoint: Option<&str>, proxy: Option<&str>| Access {
            endpoint: endpoint.map(str::to_owned),
            proxy: proxy.map(str::to_owned),
            ..Access::default()
        };
        for (uri, access, ports, cluster) in [
            ("hf://a/b", access(None, None), vec![443], false),
            ("hf://a/b", access(Some("http://mirror.example:8080/hub"), None), vec![443, 8080], false),
            ("hf://a/b", access(None, Some("http://proxy.example:3128")), vec![3128], false),
            ("s3://bucket/a", access(None, None), vec![443], false),
            ("s3://bucket/a", access(Some("http://minio.data.svc:9000"), None), vec![], true),
            ("s3://bucket/a", access(Some("http://minio"), None), vec![], true),
            ("oci://registry.example:5000/a", access(None, None), vec![443, 5000], false),
        ] {
            let rules = egress([(uri, &access)].into_iter()).unwrap();
            let numbers = |rule: &NetworkPolicyEgressRule| -> Vec<i32> {
                let ports = rule.ports.iter().flatten().filter_map(|port| port.port.clone());
                ports.filter_map(|port| if let IntOrString::Int(number) = port { Some(number) } else { None }).collect()
            };
            assert_eq!(numbers(&rules[0]), [53, 53]);
            let open: Vec<i32> = rules[1..].iter().flat_map(numbers).collect();
            assert_eq!((open, rules.iter().any(|rule| rule.to.is_some())), (ports, cluster), "{uri} {access:?}");
        }
        assert!(egress(std::iter::empty()).is_none());
    }
}
