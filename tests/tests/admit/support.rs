//! The shared cluster, the smallest resources, and what is refused with which message.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cllm_tests::{ControlPlane, TestNamespace, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, CustomResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) const MODEL_URI: &str =
    "must be hf://ORG/NAME[/FILE.gguf][@REVISION], s3://BUCKET/PREFIX, oci://REGISTRY/REPOSITORY[:TAG|@sha256:…]";
pub(crate) const ADDRESS: &str = "must be https://HOST[:PORT] or http://HOST[:PORT], without a user name";
pub(crate) const PROXY: &str = "must be http://HOST:PORT without a user name";
pub(crate) const ACCESS: &str = "secretRef, endpoint, region, caBundleRef and proxy go with";
pub(crate) const DECIMAL: &str = "must be a non-negative decimal as a string, like \"1.85\"";
pub(crate) const NAME: &str = "metadata.name must have at most 40 characters, start with a letter";

/// The shared cluster with the committed CRDs, accepted without a warning.
pub(crate) async fn cluster() -> anyhow::Result<&'static ControlPlane> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let cluster = ControlPlane::shared().await?;
    INSTALLED.get_or_try_init(|| install(cluster)).await?;
    Ok(cluster)
}

async fn install(cluster: &ControlPlane) -> anyhow::Result<()> {
    for name in ["cllmmodels", "cllmtrainings"] {
        let file = format!("{}/../crds/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let applied = cluster.kubectl(&["apply", "--server-side", "--warnings-as-errors", "-f", &file]).await?;
        ensure!(applied.stderr.is_empty(), "{file}: {}", applied.stderr);
    }
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client()?);
    let is_established = |definition: &CustomResourceDefinition| {
        let mut conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == "Established" && condition.status == "True")
    };
    eventually("both CRDs to be established", SOON, async || {
        let list = definitions.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let count = list.iter().filter(|definition| is_established(definition)).count();
        if count == 2 { Ok(()) } else { Err(format!("{count} are")) }
    })
    .await?;
    Ok(())
}

pub(crate) fn api<K: CustomResourceExt>(namespace: &TestNamespace) -> Api<DynamicObject> {
    let resource: ApiResource = K::api_resource();
    Api::namespaced_with(namespace.client(), namespace.name(), &resource)
}

pub(crate) fn training() -> Value {
    json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmTraining", "metadata": {"name": "text2sql"},
        "spec": {
            "model": {"uri": "pvc://models/target"},
            "dataset": {"uri": "pvc://data/train.jsonl", "testUri": "pvc://data/test.jsonl"},
            "output": {"uri": "pvc://models/text2sql"},
        },
    })
}

pub(crate) fn model() -> Value {
    json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": "text2sql"},
        "spec": {"model": {"uri": "pvc://models/text2sql"}},
    })
}

/// The resource with one value set (`null` removes it) at a JSON pointer.
pub(crate) fn with(mut resource: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    let mut place = &mut resource;
    for part in parent.split('/').skip(1) {
        place = &mut place[part];
    }
    match value {
        Value::Null => drop(place.as_object_mut().and_then(|fields| fields.remove(key))),
        value => place[key] = value,
    }
    resource
}

/// What the API server says to a resource; `None` when it admits it.
pub(crate) async fn refusal(api: &Api<DynamicObject>, resource: Value) -> anyhow::Result<Option<String>> {
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&parameters, &serde_json::from_value(resource)?).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => bail!(error),
    }
}

/// Every case is refused with its message; answers the messages.
pub(crate) async fn all_refused(
    api: &Api<DynamicObject>,
    base: &Value,
    cases: &[(&str, Value, &str)],
) -> anyhow::Result<Vec<String>> {
    let mut messages = Vec::new();
    for (pointer, value, expected) in cases {
        let message = refusal(api, with(base.clone(), pointer, value.clone())).await?;
        let message = message.with_context(|| format!("{pointer} = {value} was admitted"))?;
        ensure!(message.contains(expected), "{pointer} = {value}: {message}");
        messages.push(message);
    }
    Ok(messages)
}

pub(crate) async fn all_admitted(
    api: &Api<DynamicObject>,
    base: &Value,
    cases: &[(&str, Value)],
) -> anyhow::Result<()> {
    for (pointer, value) in cases {
        let message = refusal(api, with(base.clone(), pointer, value.clone())).await?;
        ensure!(message.is_none(), "{pointer} = {value}: {}", message.unwrap_or_default());
    }
    Ok(())
}

/// The messages of all rules of a definition, in which a test must have run into each.
fn rule_messages(schema: &Value, messages: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.insert(rule["message"].as_str().unwrap_or_default().to_owned());
            }
            fields.values().for_each(|value| rule_messages(value, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| rule_messages(item, messages)),
        _ => {}
    }
}

pub(crate) fn check_every_rule_was_hit(definition: &CustomResourceDefinition, seen: &[String]) -> anyhow::Result<()> {
    let mut messages = BTreeSet::new();
    rule_messages(&serde_json::to_value(definition)?, &mut messages);
    ensure!(!messages.is_empty(), "the CRD has no rules");
    for message in messages {
        ensure!(seen.iter().any(|seen| seen.contains(&message)), "no case of this test is refused with: {message}");
    }
    Ok(())
}
