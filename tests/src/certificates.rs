//! The keys and certificates of one test cluster, made anew for each and written as PEM files.
//!
//! Two authorities, as in production: one for servers and users, one for the front proxy, whose
//! clients may claim to act for any user and must therefore not be mixed with the first.

use std::{fs, net::Ipv4Addr, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::Error;

/// Every name and address by which a client may call the API server: from this machine, from
/// inside a cluster, and the first address of the service network, which the server gives itself.
const API_SERVER_NAMES: [&str; 7] = [
    "127.0.0.1",
    "localhost",
    "10.96.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Writes all keys and certificates into `folder`: `<name>.crt` and `<name>.key` each, and
/// `service-account.key`/`.pub`. The API server listens at `address`.
pub(crate) fn write_all(folder: &Path, address: Ipv4Addr, nodes: &[&'static str]) -> Result<(), Error> {
    let authority = authority(folder, "ca")?;
    sign(folder, "apiserver", &server("kube-apiserver", address)?, &authority)?;
    sign(folder, "admin", &client("admin", Some("system:masters")), &authority)?;
    sign(folder, "controller-manager", &client("system:kube-controller-manager", None), &authority)?;
    if !nodes.is_empty() {
        sign(folder, "scheduler", &client("system:kube-scheduler", None), &authority)?;
        sign(folder, "kube-proxy", &client("system:kube-proxy", None), &authority)?;
        sign(folder, "kubelet-client", &client("kube-apiserver-kubelet-client", Some("system:masters")), &authority)?;
    }
    for node in nodes {
        sign(folder, node, &client(&format!("system:node:{node}"), Some("system:nodes")), &authority)?;
    }

    let front_proxy_authority = self::authority(folder, "front-proxy-ca")?;
    sign(folder, "front-proxy-client", &client("front-proxy-client", None), &front_proxy_authority)?;

    let service_accounts = KeyPair::generate().map_err(failed("service-account"))?;
    write(folder, "service-account.key", &service_accounts.serialize_pem())?;
    write(folder, "service-account.pub", &service_accounts.public_key_pem())
}

fn authority(folder: &Path, name: &'static str) -> Result<CertifiedIssuer<'static, KeyPair>, Error> {
    let mut params = named(name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().map_err(failed(name))?;
    let authority = CertifiedIssuer::self_signed(params, key).map_err(failed(name))?;
    write(folder, &format!("{name}.crt"), &authority.pem())?;
    write(folder, &format!("{name}.key"), &authority.key().serialize_pem())?;
    Ok(authority)
}

fn server(common_name: &'static str, address: Ipv4Addr) -> Result<CertificateParams, Error> {
    let names: Vec<_> = API_SERVER_NAMES.map(str::to_owned).into_iter().chain([address.to_string()]).collect();
    let mut params = CertificateParams::new(names).map_err(failed(common_name))?;
    params.distinguished_name = distinguished_name(common_name, None);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// To the API server the common name of a client certificate is the user, the organization the group.
fn client(user: &str, group: Option<&str>) -> CertificateParams {
    let mut params = named(user, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn named(common_name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(common_name, organization);
    params
}

fn distinguished_name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn sign(
    folder: &Path,
    name: &'static str,
    params: &CertificateParams,
    authority: &CertifiedIssuer<'_, KeyPair>,
) -> Result<(), Error> {
    let key = KeyPair::generate().map_err(failed(name))?;
    let certificate = params.signed_by(&key, authority).map_err(failed(name))?;
    write(folder, &format!("{name}.crt"), &certificate.pem())?;
    write(folder, &format!("{name}.key"), &key.serialize_pem())
}

fn write(folder: &Path, file: &str, pem: &str) -> Result<(), Error> {
    fs::write(folder.join(file), pem).map_err(Error::io(format!("write {file}")))
}

fn failed(subject: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |source| Error::Certificate { subject, source }
}
