//! Everything that is rendered is accepted where pod security is enforced, and understood by the binaries.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use cllm_operator::Images;
use cllm_operator::model::{self, Resolution, ResolvedModel};
use cllm_operator::training;
use cllm_tests::TestNamespace;
use cllm_tests::product::{binary, yaml_files};
use serde_json::{Value, json};

use crate::support::{cluster, repository};

/// The resources in the YAML files below a folder of the repository.
fn resources(folder: &str) -> anyhow::Result<Vec<(PathBuf, Value)>> {
    let mut found = Vec::new();
    for path in yaml_files(&repository().join(folder))? {
        let text = std::fs::read_to_string(&path)?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
        let ours = documents.into_iter().filter(|document| document["apiVersion"] == "cllm.dev/v1alpha1");
        found.extend(ours.map(|document| (path.clone(), document)));
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
    // those that people apply, and those that exercise every field
    for (path, resource) in resources("examples")?.into_iter().chain(resources("operator/tests/fixtures")?) {
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

#[test]
fn every_command_of_an_example_is_understood_by_its_binary() -> anyhow::Result<()> {
    let mut checked = 0;
    for (path, resource) in resources("examples")? {
        for object in rendered(&resource).with_context(|| path.display().to_string())? {
            let containers = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
            for container in containers {
                let words = |field: &str| serde_json::from_value::<Vec<String>>(container[field].clone());
                // what is unknown, or has no such value, is refused before help is given
                let mut command = Command::new(binary(&words("command")?.concat())?);
                let output = command.args(words("args")?).arg("--help").output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "{}: {command:?}: {said}", path.display());
                checked += 1;
            }
        }
    }
    ensure!(checked > 20, "only {checked} commands were tried");
    Ok(())
}
