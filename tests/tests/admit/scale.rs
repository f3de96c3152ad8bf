//! The scale subresource.

use anyhow::{Context, ensure};
use cllm_crds::CllmModel;
use cllm_tests::TestNamespace;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::{cluster, model};

#[tokio::test]
async fn the_scale_subresource_is_read_and_written() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "scale").await?;
    let models = namespace.api::<CllmModel>();
    models.create(&PostParams::default(), &serde_json::from_value(model())?).await?;
    let status = json!({"status": {"replicas": 1, "selector": "cllm.dev/model=text2sql"}});
    models.patch_status("text2sql", &PatchParams::default(), &Patch::Merge(status)).await?;

    let scale = models.get_scale("text2sql").await?;
    ensure!(scale.spec.and_then(|spec| spec.replicas) == Some(1));
    let status = scale.status.context("no status")?;
    ensure!((status.replicas, status.selector.as_deref()) == (1, Some("cllm.dev/model=text2sql")));

    let change = json!({"spec": {"replicas": 5}});
    models.patch_scale("text2sql", &PatchParams::default(), &Patch::Merge(change)).await?;
    ensure!(models.get("text2sql").await?.spec.replicas == 5);
    cluster.kubectl(&["scale", "--namespace", namespace.name(), "cllm/text2sql", "--replicas=3"]).await?;
    ensure!(models.get("text2sql").await?.spec.replicas == 3);
    Ok(())
}
