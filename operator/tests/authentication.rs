//! Who asks: headers count only beside the certificate of a front proxy that is allowed, and wherever there is a doubt, nobody does.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use cllm_operator::authentication::{ALL_AUTHENTICATED, Claim, ClientCertificate, Configuration, Identity, claim};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, UnixTime};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of that name, in that organization.
fn certificate(authority: &Authority, name: &str, organization: Option<&str>, usage: Usage) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.extended_key_usages = match usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
    };
    params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
}

#[derive(Clone, Copy)]
enum Usage {
    Client,
    Server,
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
}

/// As the API server writes the `ConfigMap`.
fn configuration(front_proxy: &str, clients: &str, changes: &[(&str, Option<&str>)]) -> Configuration {
    let mut data = BTreeMap::from(
        [
            ("requestheader-client-ca-file", front_proxy),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
            ("client-ca-file", clients),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    for (key, value) in changes {
        match value {
            Some(value) => data.insert((*key).to_owned(), (*value).to_owned()),
            None => data.remove(*key),
        };
    }
    Configuration::read(&data)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn who(configuration: &Configuration, chain: &[CertificateDer<'static>], pairs: &[(&str, &str)]) -> Claim {
    claim(configuration, ClientCertificate::examine(chain, configuration, now()).as_ref(), &headers(pairs))
}

/// In few words: the user with their groups, `token …`, or `nobody`.
fn words(claim: &Claim) -> String {
    match claim {
        Claim::Proven(Identity { user, groups, .. }) => format!("{user} {}", groups.join(",")),
        Claim::Token(token) => format!("token {token}"),
        Claim::Nothing => "nobody".to_owned(),
    }
}

const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const FORGED: [(&str, &str); 2] = [("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")];

#[test]
fn who_asks_follows_from_what_the_connection_proves() {
    let (proxy, clients, stranger) = (authority("front-proxy-ca"), authority("ca"), authority("front-proxy-ca"));
    let configuration = configuration(&proxy.pem(), &clients.pem(), &[]);
    let of_proxy = certificate(&proxy, "front-proxy-client", None, Usage::Client);
    let behalf = [("X-Remote-User", HPA), ("X-Remote-Group", "system:serviceaccounts")];
    let on_behalf = format!("{HPA} system:serviceaccounts,{ALL_AUTHENTICATED}");
    let themselves = format!("kubelet system:nodes,{ALL_AUTHENTICATED}");
    let client = certificate(&clients, "kubelet", Some("system:nodes"), Usage::Client);
    let token = [("Authorization", "Bearer abc"), ("X-Remote-User", "admin")];
    for (what, certificate, headers, expected) in [
        ("the front proxy", Some(&of_proxy), &behalf[..], on_behalf.as_str()),
        ("a client", Some(&client), &[], &themselves),
        ("a client that names another user", Some(&client), &FORGED, &themselves),
        ("a token", None, &token, "token abc"),
        ("a token in another spelling", None, &[("Authorization", "bearer  abc ")], "token abc"),
        ("headers alone", None, &FORGED, "nobody"),
        ("nothing", None, &[], "nobody"),
        ("no bearer", None, &[("Authorization", "Basic abc")], "nobody"),
        ("an empty token", None, &[("Authorization", "Bearer ")], "nobody"),
        ("the front proxy for nobody", Some(&of_proxy), &[("X-Remote-Group", "system:masters")], "nobody"),
        ("the front proxy for nobody with a token", Some(&of_proxy), &token[..1], "token abc"),
        ("another name than is allowed", Some(&certificate_of(&proxy, "other", Usage::Client)), &FORGED, "nobody"),
        (
            "a stranger with the name of the authority",
            Some(&certificate_of(&stranger, "front-proxy-client", Usage::Client)),
            &FORGED,
            "nobody",
        ),
        (
            "a client with the name of the front proxy",
            Some(&certificate_of(&clients, "front-proxy-client", Usage::Client)),
            &FORGED,
            &format!("front-proxy-client {ALL_AUTHENTICATED}"),
        ),
        (
            "a certificate for servers",
            Some(&certificate_of(&proxy, "front-proxy-client", Usage::Server)),
            &FORGED,
            "nobody",
        ),
        (
            "a client without a name",
            Some(&certificate(&clients, "", Some("system:masters"), Usage::Client)),
            &[],
            "nobody",
        ),
    ] {
        let chain: Vec<_> = certificate.into_iter().cloned().collect();
        assert_eq!(words(&who(&configuration, &chain, headers)), expected, "{what}");
    }
}

fn certificate_of(authority: &Authority, name: &str, usage: Usage) -> CertificateDer<'static> {
    certificate(authority, name, None, usage)
}

#[test]
fn all_that_the_front_proxy_says_is_passed_on() {
    let proxy = authority("front-proxy-ca");
    let configuration = configuration(&proxy.pem(), &proxy.pem(), &[]);
    let chain = [certificate(&proxy, "front-proxy-client", Some("system:masters"), Usage::Client)];
    let said = [
        ("X-Remote-User", "jürgen"),
        ("X-Remote-Uid", "42"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "system:authenticated"),
        ("X-Remote-Extra-Scopes", "one"),
        ("X-Remote-Extra-Scopes", "two"),
        ("X-Remote-Extra-Example.com%2fProject", "three"),
        ("X-Other", "four"),
    ];
    let Claim::Proven(identity) = who(&configuration, &chain, &said) else { panic!("nobody") };
    let expected = Identity {
        user: "jürgen".to_owned(),
        uid: Some("42".to_owned()),
        groups: vec!["a".to_owned(), ALL_AUTHENTICATED.to_owned()],
        extra: BTreeMap::from([
            ("scopes".to_owned(), vec!["one".to_owned(), "two".to_owned()]),
            ("example.com/project".to_owned(), vec!["three".to_owned()]),
        ]),
    };
    assert_eq!(identity, expected);
    let anonymous = [("X-Remote-User", "system:anonymous"), ("X-Remote-Group", "system:unauthenticated")];
    let Claim::Proven(identity) = who(&configuration, &chain, &anonymous) else { panic!("nobody") };
    assert!(!identity.is_authenticated() && !identity.is_master(), "{identity:?}");
}

#[test]
fn what_the_configuration_does_not_say_is_not_allowed() {
    let (proxy, clients) = (authority("front-proxy-ca"), authority("ca"));
    let of_proxy = certificate(&proxy, "front-proxy-client", None, Usage::Client);
    let client = certificate(&clients, "kubelet", None, Usage::Client);
    let (behalf, both) = (format!("admin system:masters,{ALL_AUTHENTICATED}"), format!("kubelet {ALL_AUTHENTICATED}"));
    for (key, value, expected, expected_of_client) in [
        ("requestheader-allowed-names", Some("[]"), behalf.as_str(), both.as_str()),
        ("requestheader-allowed-names", None, &behalf, &both),
        ("requestheader-allowed-names", Some("front-proxy-client"), "nobody", &both),
        ("requestheader-allowed-names", Some(r#"["other"]"#), "nobody", &both),
        ("requestheader-client-ca-file", None, "nobody", &both),
        ("requestheader-client-ca-file", Some("no certificate"), "nobody", &both),
        ("requestheader-username-headers", None, "nobody", &both),
        ("requestheader-username-headers", Some(r#"["no header"]"#), "nobody", &both),
        ("requestheader-group-headers", Some("{}"), "nobody", &both),
        ("client-ca-file", None, &behalf, "nobody"),
    ] {
        let configuration = configuration(&proxy.pem(), &clients.pem(), &[(key, value)]);
        let found = [&of_proxy, &client].map(|certificate| {
            let chain = std::slice::from_ref(certificate);
            words(&who(&configuration, chain, &FORGED))
        });
        assert_eq!(found, [expected, expected_of_client], "{key} {value:?}");
    }
    assert_eq!(words(&who(&Configuration::default(), &[of_proxy, client], &FORGED)), "nobody");
}

#[test]
fn a_header_that_is_no_text_makes_nobody_of_the_one_it_speaks_of() {
    let (proxy, clients) = (authority("front-proxy-ca"), authority("ca"));
    let configuration = configuration(&proxy.pem(), &clients.pem(), &[]);
    let certificate = certificate(&proxy, "front-proxy-client", None, Usage::Client);
    let examined = ClientCertificate::examine(&[certificate], &configuration, now());
    for name in ["x-remote-user", "x-remote-group", "x-remote-extra-a"] {
        let mut headers = headers(&FORGED);
        headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(words(&claim(&configuration, examined.as_ref(), &headers)), "nobody", "{name}");
    }
}

#[test]
fn a_certificate_is_good_in_its_time_only() {
    let clients = authority("ca");
    let configuration = configuration("", &clients.pem(), &[]);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubelet");
    let moment = |second| (std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(second)).into();
    (params.not_before, params.not_after) = (moment(1_800_001_000), moment(1_800_002_000));
    let chain = [params.signed_by(&KeyPair::generate().unwrap(), &clients).unwrap().der().clone()];
    let at = |second| {
        ClientCertificate::examine(&chain, &configuration, UnixTime::since_unix_epoch(Duration::from_secs(second)))
    };
    assert!(at(1_800_000_999).is_none() && at(1_800_001_500).is_some() && at(1_800_002_001).is_none());
}
