//! What `kubectl get` and `kubectl explain` print.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining, CllmTrainingStatus};
use cllm_tests::{TestNamespace, eventually};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{SOON, cluster, model, training};

#[tokio::test]
async fn the_columns_that_kubectl_prints() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "columns").await?;
    namespace.api::<CllmModel>().create(&PostParams::default(), &serde_json::from_value(model())?).await?;
    namespace.api::<CllmTraining>().create(&PostParams::default(), &serde_json::from_value(training())?).await?;
    let model = json!({"status": {
        "replicas": 3, "readyReplicas": 2, "url": "http://text2sql.team.svc/v1", "summary": {"replicas": "2/3", "speedup": "2.10x"},
        "throughput": {"tokensPerSecond": "412.7", "tokensPerForward": "2.31", "measuredAt": "2026-01-01T00:00:00Z"},
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "AsDeclared", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }});
    let models = namespace.api::<CllmModel>();
    models.patch_status("text2sql", &PatchParams::default(), &Patch::Merge(model)).await?;
    let mut status: CllmTrainingStatus = serde_json::from_value(json!({
        "stage": "Training",
        "progress": {"progressPercentage": 42, "estimatedRemainingSeconds": 200, "lastUpdatedTime": "2026-01-01T00:00:00Z"},
        "quality": {"metric": "ExactMatch", "target": "90.0", "cllm": "89.5", "drop": "0.5"},
        "speedup": {
            "overTarget": "2.10", "overTargetWithLookup": "1.90", "overOwnAutoregressive": "2.10", "overTargetEndToEnd": "2.00",
            "tokensPerForwardBefore": "1.00", "tokensPerForward": "3.10", "bestBlockSize": 16, "hardware": "test",
        },
        "output": {"uri": "pvc://models/text2sql/abc", "digest": "sha256:abc", "sizeBytes": 7},
    }))?;
    status.summary = Some(cllm_operator::training::summary(&status));
    let trainings = namespace.api::<CllmTraining>();
    trainings.patch_status("text2sql", &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await?;
    for (name, heads, row) in [
        (
            "cllm",
            "NAME READY REPLICAS TOKENS/S SPEEDUP AGE URL",
            "text2sql True 2/3 412.7 2.10x AGE http://text2sql.team.svc/v1",
        ),
        (
            "cllmt",
            "NAME STAGE PROGRESS ETA SPEEDUP QUALITY AGE OUTPUT",
            "text2sql Training 42% 3m20s 2.10x 89.5% AGE pvc://models/text2sql/abc",
        ),
    ] {
        let printed = cluster.kubectl(&["get", "--namespace", namespace.name(), name, "-o", "wide"]).await?.stdout;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut lines: Vec<_> = printed.lines().map(words).collect();
        let age = lines[0].iter().position(|head| head == "AGE").context(printed.clone())?;
        for line in &mut lines {
            line[age] = "AGE".to_owned();
        }
        ensure!(lines == [words(heads), words(row)], "{printed}");
    }
    let all = cluster.kubectl(&["get", "--namespace", namespace.name(), "cllm-all", "-o", "name"]).await?.stdout;
    ensure!(all.contains("cllmmodel.cllm.dev/text2sql") && all.contains("cllmtraining.cllm.dev/text2sql"), "{all}");
    Ok(())
}

/// The descriptions of all fields below, by their paths.
fn descriptions(path: &str, schema: &Value, found: &mut BTreeMap<String, String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.insert(path.clone(), field["description"].as_str().unwrap_or_default().to_owned());
        descriptions(&path, field, found);
    }
    for keyword in ["items", "additionalProperties"] {
        if schema[keyword].is_object() {
            descriptions(&format!("{path}[]"), &schema[keyword], found);
        }
    }
}

#[tokio::test]
async fn each_field_is_explained_in_a_sentence() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    for kind in ["CllmModel", "CllmTraining"] {
        let name = format!("dev.cllm.v1alpha1.{kind}");
        // It is published a moment after the definition is accepted.
        let schema = eventually("the schema to be published", SOON, async || {
            let page = cluster.kubectl(&["get", "--raw", "/openapi/v3/apis/cllm.dev/v1alpha1"]).await;
            let page: Value = page
                .map_err(|error| error.to_string())
                .and_then(|output| serde_json::from_str(&output.stdout).map_err(|error| error.to_string()))?;
            let schema = page["components"]["schemas"][&name].clone();
            if schema["properties"]["spec"].is_object() { Ok(schema) } else { Err(format!("{schema:?}")) }
        })
        .await?;
        ensure!(schema["description"].as_str().is_some_and(|text| text.ends_with('.')), "{}", schema["description"]);
        let mut found = BTreeMap::new();
        for part in ["spec", "status"] {
            descriptions(part, &schema["properties"][part], &mut found);
        }
        ensure!(found.len() > 250, "{kind}: only {} fields", found.len());
        for (path, description) in found {
            // Some of Kubernetes' own words end without a period.
            let verbatim =
                [".ipBlock.", "spec.env[].", "spec.podSecurityContext.", "spec.topologySpreadConstraints[]."];
            let is_verbatim = verbatim.iter().any(|part| path.contains(part));
            ensure!(
                is_verbatim && !description.is_empty() || description.ends_with('.'),
                "{kind} {path}: {description:?}"
            );
        }
    }
    let explained = cluster.kubectl(&["explain", "cllmtrainings.status.summary.eta"]).await?.stdout;
    ensure!(explained.contains("Until the end of the stage, as `3m20s`"), "{explained}");
    Ok(())
}
