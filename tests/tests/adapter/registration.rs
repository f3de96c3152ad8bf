//! The `APIService`: made where there is none, kept, taken back with its owner; that of somebody else is left alone and said so.

use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_crds::CllmModel;
use cllm_operator::adapter::{API_SERVICE, Mode};
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::support::{Cluster, OWNER, Operator, SOON, long_lived};

/// Time in which an operator that tries again would have acted.
const A_WHILE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn the_registration_is_kept_and_goes_with_its_owner() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let operator = Operator::start(&cluster, Mode::Auto, long_lived()).await?;
    cluster.adapter_is_available().await?;
    let services = Api::<APIService>::all(cluster.control_plane.client()?);
    let uid = services.get(API_SERVICE).await?.uid().context("no uid")?;

    services.delete(API_SERVICE, &DeleteParams::default()).await?;
    let again = |service: &APIService| service.uid().filter(|other| *other != uid);
    eventually_object(&services, API_SERVICE, "the registration to be made again", SOON, again).await?;
    cluster.adapter_is_available().await?;

    let bundle = operator.stored().await?.bundle();
    let forgotten = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    services.patch(API_SERVICE, &PatchParams::default(), &Patch::Merge(forgotten)).await?;
    let told = |service: &APIService| {
        let spec = service.spec.as_ref()?;
        let is_told = spec.ca_bundle.as_ref().is_some_and(|known| known.0 == bundle);
        (is_told && spec.insecure_skip_tls_verify != Some(true)).then_some(())
    };
    eventually_object(&services, API_SERVICE, "the authorities to be told again", SOON, told).await?;

    // As helm does at the end: what is registered goes, and is not made again.
    let roles = Api::<ClusterRole>::all(cluster.control_plane.client()?);
    roles.delete(OWNER, &DeleteParams::default()).await?;
    eventually("the registration to be gone", SOON, async || is_gone(&services).await).await?;
    tokio::time::sleep(A_WHILE).await;
    is_gone(&services).await.map_err(anyhow::Error::msg).context("it was made again")?;
    operator.stop().await
}

async fn is_gone(services: &Api<APIService>) -> Result<(), String> {
    match services.get_opt(API_SERVICE).await {
        Ok(None) => Ok(()),
        Ok(Some(left)) => Err(format!("{:?}", left.metadata)),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_provider_is_left_alone_and_named() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let theirs = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API_SERVICE},
        "spec": {
            "group": "custom.metrics.k8s.io", "version": "v1beta2", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "prometheus-adapter"},
        },
    });
    cluster.apply(vec![theirs]).await?;
    let services = Api::<APIService>::all(cluster.control_plane.client()?);
    let before = services.get(API_SERVICE).await?.spec;
    let operator = Operator::start(&cluster, Mode::True, long_lived()).await?;
    let team = TestNamespace::create(&cluster.control_plane, "team").await?;
    let model: CllmModel = serde_json::from_value(json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": "text2sql"},
        "spec": {
            "model": {"uri": "pvc://models/text2sql"}, "autoscaling": {"maxReplicas": 3, "targetTokensPerSecond": 100},
        },
    }))?;
    team.api::<CllmModel>().create(&PostParams::default(), &model).await?;
    let message =
        eventually_object(&team.api::<CllmModel>(), "text2sql", "the other provider to be named", SOON, |model| {
            let conditions = &model.status.as_ref()?.conditions;
            let scaling = conditions.iter().find(|condition| condition.type_ == "ScalingActive")?;
            (scaling.reason == "ForeignAdapter").then(|| scaling.message.clone())
        })
        .await?;
    ensure!(message.starts_with("custom.metrics.k8s.io belongs to Service default/prometheus-adapter"), "{message}");
    ensure!(services.get(API_SERVICE).await?.spec == before, "it was changed");
    let events = cluster.control_plane.kubectl(&["get", "events", "-n", team.name(), "-o", "wide"]).await?.stdout;
    ensure!(events.contains("ForeignAdapter"), "{events}");

    // When it goes, ours takes its place.
    services.delete(API_SERVICE, &DeleteParams::default()).await?;
    cluster.adapter_is_available().await?;
    operator.stop().await
}
