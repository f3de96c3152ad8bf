//! What of a training can be changed once it exists.

use anyhow::{Context, bail, ensure};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::training;

/// Creates a training and tries to change each of its fields, to set absent ones and to remove present ones.
pub(crate) async fn immutable_fields(api: &Api<DynamicObject>) -> anyhow::Result<Vec<String>> {
    let mut resource = training();
    for (field, value) in [
        ("adaptation", json!({"epochs": 1})),
        ("workspace", json!({"claimName": "work"})),
        ("nodeSelector", json!({"disk": "ssd"})),
        ("trajectories", json!({"shards": 2, "resources": {"requests": {"cpu": "1"}}})),
    ] {
        resource["spec"][field] = value;
    }
    api.create(&PostParams::default(), &serde_json::from_value(resource)?).await?;
    let mut messages = Vec::new();
    for (change, field) in [
        (json!({"model": {"uri": "pvc://models/other"}}), "model"),
        (json!({"dataset": {"maxExamples": 1}}), "dataset"),
        (json!({"adaptation": null}), "adaptation"),
        (json!({"adaptation": {"epochs": 2}}), "adaptation"),
        (json!({"trajectories": {"shards": 3}}), "shards"),
        (json!({"trajectories": {"blockSize": 8}}), "blockSize"),
        (json!({"trajectories": {"maxNewTokens": 8}}), "maxNewTokens"),
        (json!({"trajectories": {"concurrency": 8}}), "concurrency"),
        (json!({"trajectories": {"resources": null}}), "resources"),
        (json!({"trajectories": {"resources": {"requests": {"cpu": "2"}}}}), "resources"),
        (json!({"training": {"steps": 5}}), "training"),
        (json!({"evaluation": {"minSpeedup": "1.0"}}), "evaluation"),
        (json!({"output": {"uri": "pvc://models/other"}}), "output"),
        (json!({"workspace": null}), "workspace"),
        (json!({"workspace": {"claimName": "other"}}), "workspace"),
        (json!({"activeDeadlineSeconds": 60}), "activeDeadlineSeconds"),
        (json!({"backoffLimit": 1}), "backoffLimit"),
        (json!({"image": "other:1"}), "image"),
        (json!({"imagePullPolicy": "Never"}), "imagePullPolicy"),
        (json!({"imagePullSecrets": [{"name": "a"}]}), "imagePullSecrets"),
        (json!({"resources": {"limits": {"cpu": "1"}}}), "resources"),
        (json!({"nodeSelector": null}), "nodeSelector"),
        (json!({"tolerations": [{"operator": "Exists"}]}), "tolerations"),
        (json!({"affinity": {"nodeAffinity": {}}}), "affinity"),
        (json!({"runtimeClassName": "a"}), "runtimeClassName"),
        (json!({"priorityClassName": "a"}), "priorityClassName"),
        (
            json!({"topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"},
            ]}),
            "topologySpreadConstraints",
        ),
        (json!({"schedulerName": "second"}), "schedulerName"),
        (json!({"podSecurityContext": {"fsGroup": 1000}}), "podSecurityContext"),
        (json!({"env": [{"name": "RUST_LOG", "value": "debug"}]}), "env"),
        (json!({"extraArgs": ["--verbose=true"]}), "extraArgs"),
        (json!({"trajectories": {"extraArgs": ["--threads=4"]}}), "extraArgs"),
        (json!({"trajectories": {"nodeSelector": {"pool": "gpu"}}}), "nodeSelector"),
        (json!({"trajectories": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}), "tolerations"),
        (json!({"serviceAccountName": "a"}), "serviceAccountName"),
        (json!({"podLabels": {"a": "b"}}), "podLabels"),
        (json!({"podAnnotations": {"a": "b"}}), "podAnnotations"),
    ] {
        let message = refused_change(api, &change).await?.with_context(|| format!("{change} was admitted"))?;
        ensure!(
            message.contains(&format!("{field} cannot be changed: the name of a training stands for one result")),
            "{change}: {message}"
        );
        messages.push(message);
    }
    for change in [
        json!({"suspend": true}),
        json!({"trajectories": {"parallelism": 2}}),
        json!({"ttlSecondsAfterFinished": 60}),
        json!({"suspend": false}),
        json!({"ttlSecondsAfterFinished": null}),
    ] {
        ensure!(refused_change(api, &change).await?.is_none(), "{change} was refused");
    }
    check_that_each_field_is_decided_upon(&messages)?;
    Ok(messages)
}

/// Each field of a training can be changed or has been refused above.
fn check_that_each_field_is_decided_upon(messages: &[String]) -> anyhow::Result<()> {
    let definition = serde_json::to_value(&cllm_crds::definitions::all()?[1])?;
    let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for (schema, changeable) in [
        (spec, &["suspend", "trajectories", "ttlSecondsAfterFinished"][..]),
        (&spec["properties"]["trajectories"], &["parallelism"]),
    ] {
        for field in schema["properties"].as_object().context("no fields")?.keys() {
            let refusal = format!("{field} cannot be changed: the name of a training stands for one result");
            let is_refused = messages.iter().any(|message| message.contains(&refusal));
            ensure!(
                is_refused != changeable.contains(&field.as_str()),
                "{field} can be changed, or its change is not tried"
            );
        }
    }
    Ok(())
}

async fn refused_change(api: &Api<DynamicObject>, spec: &Value) -> anyhow::Result<Option<String>> {
    match api.patch("text2sql", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => bail!(error),
    }
}
