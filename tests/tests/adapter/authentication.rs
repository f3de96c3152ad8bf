//! Who is let in: by the real API server's authorities, tokens and rights.

use anyhow::ensure;
use cllm_operator::adapter::Mode;
use cllm_tests::eventually;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::AuthInfo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::json;

use crate::support::{
    Cluster, Operator, ROOT, SOON, as_service_account, ask, binding, certificate_of, long_lived, shown, token,
};

pub(crate) const FORGED: [(&str, &str); 2] = [("x-remote-user", "admin"), ("x-remote-group", "system:masters")];

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_who_proves_nothing_or_may_not() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let operator = Operator::start(&cluster, Mode::Auto, long_lived()).await?;
    cluster.adapter_is_available().await?;
    let metric = format!("{ROOT}/namespaces/{}/pods/*/cllm_tokens_per_second", operator.namespace.name());

    // Past the API server: the front proxy may name anybody, nobody else may.
    let proxy = operator.client(certificate_of(&cluster, "front-proxy-client"), &FORGED).await?;
    ensure!(
        ask(&proxy, ROOT).await.is_ok_and(|found| found["kind"] == "APIResourceList"),
        "the front proxy is refused"
    );
    let absent = ask(&proxy, &metric).await.expect_err("there is no Pod");
    ensure!(absent.0 == 404 && absent.1.contains("no Pod"), "{absent:?}");
    let (certificate, key) = signed_by(&authority("front-proxy-ca")?, "front-proxy-client")?;
    for (what, credentials) in [
        ("headers alone", AuthInfo::default()),
        ("a certificate of a stranger", shown(&certificate, &key)),
        ("a made-up token", AuthInfo { token: Some("abc".to_owned().into()), ..AuthInfo::default() }),
    ] {
        let forger = operator.client(credentials, &FORGED).await?;
        for path in [ROOT, "/apis", &metric] {
            let refusal = ask(&forger, path).await.expect_err(what);
            ensure!(refusal.0 == 401, "{what} at {path}: {refusal:?}");
        }
        ensure!(forger.request_text(http::Request::get("/readyz").body(Vec::new())?).await? == "ok", "{what}");
    }
    // A client of the cluster is who it is, whatever its headers say.
    let client = operator.client(certificate_of(&cluster, "controller-manager"), &FORGED).await?;
    let refusal = ask(&client, &metric).await.expect_err("controller-manager");
    ensure!(refusal.0 == 403 && refusal.1.contains("\"system:kube-controller-manager\""), "{refusal:?}");

    service_accounts_need_rights(&cluster, &operator, &metric).await?;
    for (request, outcome) in
        [("discovery", "answered"), ("discovery", "refused"), ("figures", "absent"), ("figures", "refused")]
    {
        ensure!(operator.answered(request, outcome).await? > 0, "{request} {outcome} is not counted");
    }
    ensure!(operator.answered("figures", "answered").await? == 0, "there were no figures");
    operator.stop().await
}

/// Everybody who is known may look at what there is, and only those who have the right at a figure.
async fn service_accounts_need_rights(cluster: &Cluster, operator: &Operator, metric: &str) -> anyhow::Result<()> {
    let namespace = &operator.namespace;
    for name in ["reader", "nobody"] {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        namespace.api::<ServiceAccount>().create(&PostParams::default(), &account).await?;
    }
    let rule =
        json!({"apiGroups": ["custom.metrics.k8s.io"], "resources": ["pods/cllm_tokens_per_second"], "verbs": ["get"]});
    let reader = json!({"kind": "ServiceAccount", "name": "reader", "namespace": namespace.name()});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader", "namespace": namespace.name()},
        "rules": [rule],
    });
    let binding = binding("RoleBinding", "reader", Some(namespace.name()), ("Role", "reader"), &reader);
    cluster.apply(vec![role, binding]).await?;
    let other = metric.replace("tokens_per_second", "queued_requests");
    for (name, code) in [("reader", 404), ("nobody", 403)] {
        let credentials = AuthInfo { token: Some(token(namespace, name).await?.into()), ..AuthInfo::default() };
        let clients = [
            ("past the API server", operator.client(credentials, &[]).await?),
            ("through the API server", as_service_account(cluster, namespace, name).await?),
        ];
        for (way, client) in clients {
            ask(&client, ROOT).await.map_err(|refusal| anyhow::anyhow!("{name} {way}: {refusal:?}"))?;
            // Rights come to the API server's authorizer a moment later.
            eventually(&format!("{name} {way} to get {code}"), SOON, async || match ask(&client, metric).await {
                Err((found, _)) if found == code => Ok(()),
                found => Err(format!("{found:?}")),
            })
            .await?;
            let refusal = ask(&client, &other).await.expect_err(name);
            ensure!(refusal.0 == 403, "{name} {way}: {refusal:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_of_the_front_proxy_is_replaced_while_everything_runs() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let operator = Operator::start(&cluster, Mode::Auto, long_lived()).await?;
    cluster.adapter_is_available().await?;
    let next = authority("next-front-proxy-ca")?;
    let (certificate, key) = signed_by(&next, "front-proxy-client")?;
    // One connection, which outlives both changes.
    let proxy = operator.client(shown(&certificate, &key), &FORGED).await?;
    ensure!(ask(&proxy, ROOT).await.is_err_and(|refusal| refusal.0 == 401), "the next authority is trusted already");

    let maps = Api::<ConfigMap>::namespaced(cluster.control_plane.client()?, "kube-system");
    let trusted = maps.get("extension-apiserver-authentication").await?.data.unwrap_or_default();
    let before = trusted["requestheader-client-ca-file"].clone();
    let trust = async |pem: String| {
        let patch = Patch::Merge(json!({"data": {"requestheader-client-ca-file": pem}}));
        maps.patch("extension-apiserver-authentication", &PatchParams::default(), &patch).await
    };
    trust(format!("{before}{}", next.pem())).await?;
    let known = async |code: Option<u16>| {
        eventually(&format!("{code:?} of the next front proxy"), SOON, async || {
            let found = ask(&proxy, ROOT).await.map(drop);
            match &found {
                Ok(()) if code.is_none() => Ok(()),
                Err((refusal, _)) if Some(*refusal) == code => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    };
    known(None).await?;
    let of_the_cluster = operator.client(certificate_of(&cluster, "front-proxy-client"), &FORGED).await?;
    ensure!(ask(&of_the_cluster, ROOT).await.is_ok(), "the front proxy of the cluster is trusted no more");
    trust(before).await?;
    known(Some(401)).await?;
    // The API server is served all the while.
    cluster.raw(ROOT).await.map_err(anyhow::Error::msg)?;
    operator.stop().await
}

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// A client certificate and its key.
pub(crate) fn signed_by(authority: &Authority, name: &str) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, authority)?.pem(), key.serialize_pem()))
}
