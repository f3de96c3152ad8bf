//! Everything that is rendered is accepted where pod security is enforced.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use cllm_operator::Images;
use cllm_operator::model::{self, Resolution, ResolvedModel};
use cllm_operator::training;
use cllm_tests::TestNamespace;
use serde_json::{Value, json};

use crate::support::{cluster, repository};

/// Every resource of the examples, and those that exercise every field.
fn resources() -> anyhow::Result<Vec<(PathBuf, Value)>> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join("examples"), repository().join("operator/tests/fixtures")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path)?;
                let documents: Vec<Value> =
                    serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
                let ours = documents.into_iter().filter(|document| document["apiVersion"] == "cllm.dev/v1alpha1");
                found.extend(ours.map(|document| (path.clone(), document)));
            }
        }
    }
    Ok(found)
}

fn rendered(resource: &Value) -> anyhow::Result<Vec<Value>> {
    let images = Images::of_version("registry.example/", "test");
    if resource["kind"] == "CllmTraining" {
        let valid = training::validate(&serde_json::from_value(resource.clone())?, &images)?;
        return Ok(training::render(&valid).objects());
    }
    let valid = model::validate(&serde_json::from_value(resource.clone())?, &images)?;
    let checkpoint = match model::resolve(&valid, &[]) {
        Resolution::Resolved(checkpoint) => checkpoint,
        Resolution::Waiting { .. } => ResolvedModel::new("pvc://models/text2sql/abc", Some("sha256:abc".to_owned()))?,
    };
    Ok(model::render(&valid, &checkpoint).objects())
}

#[tokio::test]
async fn everything_rendered_is_accepted_without_a_warning_where_restricted_is_enforced() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "render").await?;
    let mut checked = 0;
    for (path, resource) in resources()? {
        let mut objects = rendered(&resource).with_context(|| path.display().to_string())?;
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(namespace.name());
        }
        let manifest = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let arguments = ["apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-"];
        let output =
            cluster.kubectl_with_input(&arguments, &manifest).await.with_context(|| path.display().to_string())?;
        ensure!(output.stderr.is_empty(), "{}: {}", path.display(), output.stderr);
        ensure!(output.stdout.lines().count() == objects.len(), "{}", output.stdout);
        checked += objects.len();
    }
    ensure!(checked > 40, "only {checked} objects were rendered");
    Ok(())
}
