//! What becomes of files that a person applies.

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::TestNamespace;
use cllm_tests::product::{repository, yaml_files};
use kube::api::PostParams;
use serde_json::json;

use crate::support::{api, cluster, model, training, with};

#[tokio::test]
async fn every_example_is_admitted_as_a_person_applies_it() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "examples").await?;
    let files = yaml_files(&repository().join("examples"))?;
    for file in &files {
        let file = file.display().to_string();
        // a field that the definition lacks is refused too
        let arguments = ["apply", "--dry-run=server", "--namespace", namespace.name(), "-f", &file];
        let applied = cluster.kubectl(&arguments).await.with_context(|| file.clone())?;
        ensure!(applied.stderr.is_empty(), "{file}: {}", applied.stderr);
    }
    ensure!(files.len() >= 6, "only {files:?}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_name_when_a_person_applies_it() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "unknown").await?;
    let resource = with(training(), "/spec/learningrate", json!("1")).to_string();
    let arguments = ["apply", "--namespace", namespace.name(), "-f", "-"];
    let error = cluster.kubectl_with_input(&arguments, &resource).await.err().context("it was admitted")?.to_string();
    ensure!(error.contains("unknown field \"spec.learningrate\""), "{error}");
    Ok(())
}

#[tokio::test]
async fn defaults_are_filled_in_and_the_minimum_is_a_whole_resource() -> anyhow::Result<()> {
    let namespace = TestNamespace::create(cluster().await?, "defaults").await?;
    let created: CllmTraining = serde_json::from_value(training())?;
    let stored = namespace.api::<CllmTraining>().create(&PostParams::default(), &created).await?;
    ensure!(stored.spec == created.spec, "the API server and serde fill in different defaults: {:?}", stored.spec);
    let created: CllmModel = serde_json::from_value(model())?;
    let stored = namespace.api::<CllmModel>().create(&PostParams::default(), &created).await?;
    ensure!(stored.spec == created.spec, "the API server and serde fill in different defaults: {:?}", stored.spec);
    // What `kubectl` sends says nothing of defaults.
    let dynamic = with(model(), "/metadata/name", json!("bare"));
    let stored = api::<CllmModel>(&namespace).create(&PostParams::default(), &serde_json::from_value(dynamic)?).await?;
    let spec: cllm_crds::CllmModelSpec = serde_json::from_value(stored.data["spec"].clone())?;
    ensure!(spec == created.spec, "{:?}", stored.data);
    ensure!(
        stored.data["spec"]["replicas"] == 1 && stored.data["spec"]["server"]["drainSeconds"] == 60,
        "{:?}",
        stored.data
    );
    Ok(())
}
