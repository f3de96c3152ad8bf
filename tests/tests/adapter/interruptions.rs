//! What happens to the adapter while an autoscaler reads it: each time the autoscaler goes on to follow the load.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_crds::CllmModel;
use cllm_operator::adapter::Mode;
use cllm_tests::{TestNamespace, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::authentication::{FORGED, authority, signed_by};
use crate::autoscaling::{model, pods, runs, scaling_is};
use crate::rotation::{LIFETIMES, PATIENCE};
use crate::support::{Cluster, Operator, Page, ROOT, ask, figures, long_lived, shown};

/// A model with an autoscaler, and one replica that answers.
struct Scaled {
    team: TestNamespace,
    page: Page,
}

impl Scaled {
    async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let team = TestNamespace::create(&cluster.control_plane, "team").await?;
        team.api::<CllmModel>().create(&PostParams::default(), &model()?).await?;
        let replica = pods(&team, 1).await?.remove(0);
        let page = Page::start(&figures(10.0, 1.0, 0)).await?;
        runs(&team, &replica, &page, true).await?;
        let scaled = Self { team, page };
        scaled.follows_the_load().await?;
        Ok(scaled)
    }

    /// Of one to three replicas there are three under load, and one without.
    async fn follows_the_load(&self) -> anyhow::Result<()> {
        for (tokens_per_second, count) in [(250.0, 3), (10.0, 1)] {
            self.page.set(Some(figures(tokens_per_second, 50.0, 0)));
            pods(&self.team, count).await?;
        }
        scaling_is(&self.team, "True", "").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_goes_on_when_the_adapter_is_restarted_and_while_its_authorities_are_replaced()
-> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let operator = Operator::start(&cluster, Mode::Auto, LIFETIMES).await?;
    cluster.adapter_is_available().await?;
    let scaled = Scaled::start(&cluster).await?;

    let operator = operator.restart(&cluster).await?;
    cluster.adapter_is_available().await?;
    scaled.follows_the_load().await.context("after a restart")?;

    let first = operator.stored().await?.authority;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stored = operator.stored().await?;
        if stored.authority != first && !stored.older.contains(&first) {
            break;
        }
        ensure!(Instant::now() < deadline, "the first authority is trusted still");
        scaled.follows_the_load().await.context("while authorities are replaced")?;
    }
    scaled.follows_the_load().await.context("with another authority")?;
    operator.stop().await
}

/// The folder with the certificates of the control plane, which it reads again when they change.
struct Certificates(PathBuf);

impl Certificates {
    fn read(&self, name: &str) -> std::io::Result<String> {
        std::fs::read_to_string(self.0.join(name))
    }

    /// All at once: nobody reads half of it.
    fn replace(&self, name: &str, pem: &str) -> std::io::Result<()> {
        let new = self.0.join(format!("{name}.new"));
        std::fs::write(&new, pem)?;
        std::fs::rename(new, self.0.join(name))
    }
}

/// As an administrator does it: the next authority is trusted, then it signs, then that of before is trusted no more.
#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_goes_on_when_the_front_proxy_has_a_certificate_of_another_authority() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let operator = Operator::start(&cluster, Mode::Auto, long_lived()).await?;
    cluster.adapter_is_available().await?;
    let scaled = Scaled::start(&cluster).await?;
    let certificates = Certificates(cluster.control_plane.folder().join("pki"));
    let before = certificates.read("front-proxy-ca.crt")?;
    let of_before = shown(&certificates.read("front-proxy-client.crt")?, &certificates.read("front-proxy-client.key")?);
    let next = authority("next-front-proxy-ca")?;
    let (certificate, key) = signed_by(&next, "front-proxy-client")?;
    let of_before = operator.client(of_before, &FORGED).await?;
    let of_next = operator.client(shown(&certificate, &key), &FORGED).await?;

    certificates.replace("front-proxy-ca.crt", &format!("{before}{}", next.pem()))?;
    eventually("the next front proxy to be let in", PATIENCE, async || {
        ask(&of_next, ROOT).await.map(drop).map_err(|refusal| format!("{refusal:?}"))
    })
    .await?;
    certificates.replace("front-proxy-client.key", &key)?;
    certificates.replace("front-proxy-client.crt", &certificate)?;
    certificates.replace("front-proxy-ca.crt", &next.pem())?;
    // The API server only ever adds to the ConfigMap, and does so until it has read its own file again.
    let maps = Api::<ConfigMap>::namespaced(cluster.control_plane.client()?, "kube-system");
    let trust = Patch::Merge(json!({"data": {"requestheader-client-ca-file": next.pem()}}));
    eventually("the front proxy of before to be refused", PATIENCE, async || {
        let trusted = maps.patch("extension-apiserver-authentication", &PatchParams::default(), &trust).await;
        trusted.map_err(|error| error.to_string())?;
        sleep(Duration::from_secs(1)).await;
        match ask(&of_before, ROOT).await {
            Err((401, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    eventually("the API server to be let in again", PATIENCE, async || cluster.raw(ROOT).await).await?;
    scaled.follows_the_load().await?;
    ensure!(ask(&of_before, ROOT).await.is_err_and(|refusal| refusal.0 == 401), "the one of before is let in again");
    operator.stop().await
}
