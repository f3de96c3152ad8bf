//! What the API server admits: a corpus of valid and invalid resources with the message that a person sees, and the scale subresource.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cllm_crds::{CllmModel, CllmTraining, CllmTrainingStatus};
use cllm_tests::product::{repository, yaml_files};
use cllm_tests::{ControlPlane, TestNamespace, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, CustomResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const SOON: Duration = Duration::from_secs(30);

/// The shared cluster with the committed CRDs, accepted without a warning.
async fn cluster() -> anyhow::Result<&'static ControlPlane> {
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

fn api<K: CustomResourceExt>(namespace: &TestNamespace) -> Api<DynamicObject> {
    let resource: ApiResource = K::api_resource();
    Api::namespaced_with(namespace.client(), namespace.name(), &resource)
}

fn training() -> Value {
    json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmTraining", "metadata": {"name": "text2sql"},
        "spec": {
            "model": {"uri": "pvc://models/target"},
            "dataset": {"uri": "pvc://data/train.jsonl", "testUri": "pvc://data/test.jsonl"},
            "output": {"uri": "pvc://models/text2sql"},
        },
    })
}

fn model() -> Value {
    json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": "text2sql"},
        "spec": {"model": {"uri": "pvc://models/text2sql"}},
    })
}

/// The resource with one value set (`null` removes it) at a JSON pointer.
fn with(mut resource: Value, pointer: &str, value: Value) -> Value {
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
async fn refusal(api: &Api<DynamicObject>, resource: Value) -> anyhow::Result<Option<String>> {
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&parameters, &serde_json::from_value(resource)?).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => bail!(error),
    }
}

/// Every case is refused with its message; answers the messages.
async fn all_refused(
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

async fn all_admitted(api: &Api<DynamicObject>, base: &Value, cases: &[(&str, Value)]) -> anyhow::Result<()> {
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

fn check_every_rule_was_hit(definition: &CustomResourceDefinition, seen: &[String]) -> anyhow::Result<()> {
    let mut messages = BTreeSet::new();
    rule_messages(&serde_json::to_value(definition)?, &mut messages);
    ensure!(!messages.is_empty(), "the CRD has no rules");
    for message in messages {
        ensure!(seen.iter().any(|seen| seen.contains(&message)), "no case of this test is refused with: {message}");
    }
    Ok(())
}

const MODEL_URI: &str =
    "must be hf://ORG/NAME[/FILE.gguf][@REVISION], s3://BUCKET/PREFIX, oci://REGISTRY/REPOSITORY[:TAG|@sha256:…]";
const DATA_URI: &str = "must be s3://BUCKET/PATH (with * in the last part for several files), pvc://CLAIM/PATH";
const VOLUME_URI: &str = "must be pvc://CLAIM/PATH (a PersistentVolumeClaim of this namespace) or file:///PATH";
const OUTPUT: &str =
    "must be pvc://CLAIM/PATH (a folder of a PersistentVolumeClaim of this namespace) or s3://BUCKET/PREFIX";
const ADDRESS: &str = "must be https://HOST[:PORT] or http://HOST[:PORT], without a user name";
const PROXY: &str = "must be http://HOST:PORT without a user name";
const ACCESS: &str = "secretRef, endpoint, region, caBundleRef and proxy go with";
const DECIMAL: &str = "must be a non-negative decimal as a string, like \"1.85\"";
const TEMPERATURES: &str = "each of temperatures must be a decimal as a string above 0 and at most 2";
const TRAINING_REFERENCE: &str = "trainingRef needs exactly one of name (one training) and selector";
const NAME: &str = "metadata.name must have at most 40 characters, start with a letter";

#[tokio::test]
async fn trainings() -> anyhow::Result<()> {
    let namespace = TestNamespace::create(cluster().await?, "trainings").await?;
    let api = api::<CllmTraining>(&namespace);
    admitted_trainings(&api).await?;
    let name = json!("Text");
    let mut seen = all_refused(
        &api,
        &training(),
        &[
            ("/metadata/name", json!("a".repeat(41)), NAME),
            ("/metadata/name", json!("2sql"), NAME),
            ("/metadata/name", json!("a.b"), NAME),
            ("/spec/model", Value::Null, "spec.model: Required value"),
            ("/spec/model/uri", json!("git://org/name"), MODEL_URI),
            ("/spec/model/uri", json!("hf://org/name/more"), MODEL_URI),
            ("/spec/model/uri", json!("hf://org/name@a b"), MODEL_URI),
            ("/spec/model/uri", json!("s3://bucket"), MODEL_URI),
            ("/spec/model/uri", json!("oci://registry.example/Team/name"), MODEL_URI),
            ("/spec/model/uri", json!("oci://registry.example/name@sha256:12"), MODEL_URI),
            ("/spec/model/secretRef", json!({"name": "hub"}), ACCESS),
            ("/spec/dataset/endpoint", json!("http://minio:9000"), ACCESS),
            ("/spec/output/region", json!("eu-1"), ACCESS),
            ("/spec/model", json!({"uri": "hf://org/name", "endpoint": "https://me:word@mirror"}), ADDRESS),
            ("/spec/model", json!({"uri": "hf://org/name", "endpoint": "https://mirror?token=a"}), ADDRESS),
            ("/spec/model", json!({"uri": "hf://org/name", "proxy": "http://me:word@proxy:3128"}), PROXY),
            ("/spec/model", json!({"uri": "hf://org/name", "proxy": "https://proxy:3128"}), PROXY),
            ("/spec/model", json!({"uri": "s3://bucket/a", "region": "EU"}), "spec.model.region in body should match"),
            (
                "/spec/model",
                json!({"uri": "s3://bucket/a", "secretRef": {}}),
                "spec.model.secretRef.name: Required value",
            ),
            ("/spec/model/uri", json!("file://relative"), MODEL_URI),
            ("/spec/model/uri", json!("pvc://models/../other"), MODEL_URI),
            ("/spec/model/uri", json!("pvc://models/$(id)"), MODEL_URI),
            ("/spec/model/uri", json!("pvc://models/a;id>b"), MODEL_URI),
            ("/spec/model/uri", json!("pvc://models/a\nb"), MODEL_URI),
            ("/spec/model/uri", json!(format!("pvc://models/{}", "a".repeat(2048))), "Too long"),
            ("/spec/dataset/uri", json!("/data"), DATA_URI),
            ("/spec/dataset/uri", json!("pvc://data/*.jsonl"), DATA_URI),
            ("/spec/dataset/validationUri", json!("data"), DATA_URI),
            ("/spec/dataset/testUri", json!("hf://org/x"), DATA_URI),
            ("/spec/dataset/uri", json!("s3://bucket/*/x.jsonl"), DATA_URI),
            ("/spec/dataset/testUri", Value::Null, "spec.dataset.testUri: Required value"),
            ("/spec/dataset/maxExamples", json!(0), "should be greater than or equal to 1"),
            ("/spec/adaptation", json!({}), "adaptation needs exactly one of epochs and steps"),
            ("/spec/adaptation", json!({"epochs": 1, "steps": 1}), "adaptation needs exactly one of epochs and steps"),
            ("/spec/adaptation", json!({"epochs": 1, "learningRate": "1e-3"}), DECIMAL),
            ("/spec/trajectories", json!({"shards": 0}), "should be greater than or equal to 1"),
            ("/spec/output/uri", json!("file:///output"), OUTPUT),
            ("/spec/output/uri", json!("pvc://models/"), OUTPUT),
            ("/spec/output/uri", json!("pvc://models/*"), OUTPUT),
            ("/spec/output/uri", json!("s3://bucket/"), OUTPUT),
            ("/spec/output/uri", json!("hf://org/name"), OUTPUT),
            ("/spec/workspace", json!({"claimName": "work", "size": "1Gi"}), "workspace is either an existing claim"),
            ("/spec/workspace", json!({"claimName": "No"}), "spec.workspace.claimName in body should match"),
        ],
    )
    .await?;
    seen.extend(refusal(&api, with(training(), "/metadata/name", name)).await?);
    seen.extend(refused_stages(&api).await?);
    seen.extend(workers_and_their_workspace(&api).await?);
    seen.extend(immutable_fields(&api).await?);
    let definitions = cllm_crds::definitions::all()?;
    check_every_rule_was_hit(&definitions[1], &seen)
}

/// What trainings may be like.
async fn admitted_trainings(api: &Api<DynamicObject>) -> anyhow::Result<()> {
    all_admitted(
        api,
        &training(),
        &[
            ("/metadata/name", json!("a".repeat(40))),
            ("/spec/model/uri", json!("file:///models/target")),
            ("/spec/model/uri", json!("hf://org/name@refs/pr/1")),
            ("/spec/model/uri", json!("hf://gpt2")),
            ("/spec/model/uri", json!("hf://org/name/model.Q8_0.gguf@v1")),
            ("/spec/model", json!({
                "uri": "oci://registry.example:5000/team/model:v1", "secretRef": {"name": "registry"},
                "endpoint": "http://mirror.svc:5000", "caBundleRef": {"name": "authorities"}, "proxy": "http://proxy:3128",
            })),
            ("/spec/dataset/uri", json!("s3://data/day=1/train-*.jsonl.gz")),
            ("/spec/dataset", json!({
                "uri": "pvc://data/a.jsonl", "testUri": "s3://data/test.jsonl", "secretRef": {"name": "store"},
            })),
            ("/spec/output", json!({"uri": "s3://models/text2sql", "secretRef": {"name": "store"}, "region": "eu-1"})),
            ("/spec/dataset/uri", json!("pvc://data/day=1/train.jsonl.gz")),
            ("/spec/dataset/validationUri", json!("pvc://data/dev.jsonl")),
            ("/spec/adaptation", json!({"epochs": 2})),
            ("/spec/adaptation", json!({"steps": 100, "learningRate": "0.003"})),
            ("/spec/evaluation", json!({"metric": "SqlExecution", "databaseUri": "pvc://data/shop.sqlite"})),
            ("/spec/evaluation", json!({"minSpeedup": "1.3", "maxQualityDrop": "2"})),
            ("/spec/evaluation", json!({"metric": "Perplexity", "maxQualityDrop": "5"})),
            ("/spec/evaluation", json!({"temperatures": ["0.7", "0.000000001", "2", "2.0", "1.25"]})),
            ("/spec/training", json!({"method": "LoRA"})),
            ("/spec/training", json!({"method": "LoRA", "lora": {"rank": 8, "alpha": "2.5"}})),
            ("/spec/trajectories", json!({"concurrency": 16})),
            ("/spec/training", json!({"workers": 8, "gradientCheckpointing": true})),
            ("/spec/training", json!({"extraArgs": ["--decay=Cosine", "--warmup-steps=100"]})),
            ("/spec/adaptation", json!({"steps": 100, "extraArgs": ["--method=LoRA"]})),
            ("/spec/trajectories", json!({"extraArgs": ["--threads=4"]})),
            ("/spec/evaluation", json!({"extraArgs": ["--threads=4"]})),
            ("/spec/training", json!({"keep": "Last"})),
            ("/spec/training", json!({"maxPerplexityRise": "2.5"})),
            ("/spec/adaptation", json!({"steps": 100, "keep": "Last"})),
            ("/spec/workspace", json!({"claimName": "work"})),
            ("/spec/workspace", json!({"size": "5Gi", "accessModes": ["ReadWriteMany"]})),
            ("/spec/suspend", json!(true)),
        ],
    )
    .await
}

/// What training and evaluation are not like.
async fn refused_stages(api: &Api<DynamicObject>) -> anyhow::Result<Vec<String>> {
    all_refused(
        api,
        &training(),
        &[
            ("/spec/training", json!({"learningRate": "-1"}), DECIMAL),
            ("/spec/training", json!({"autoregressiveWeight": "ten"}), DECIMAL),
            ("/spec/training", json!({"noiseSchedule": "Backwards"}), "supported values: \"Progressive\""),
            (
                "/spec/training",
                json!({"consistency": "Local", "states": "Mixed"}),
                "consistency Local learns from the next state of a trajectory",
            ),
            ("/spec/training", json!({"method": "Lora"}), "supported values: \"Full\", \"LoRA\""),
            ("/spec/training", json!({"lora": {"rank": 8}}), "lora describes the adapters of method LoRA"),
            ("/spec/training", json!({"method": "Full", "lora": {}}), "lora describes the adapters of method LoRA"),
            ("/spec/training", json!({"method": "LoRA", "lora": {"alpha": "-1"}}), DECIMAL),
            ("/spec/training", json!({"method": "LoRA", "lora": {"rank": 0}}), "should be greater than or equal to 1"),
            ("/spec/training", json!({"keep": "First"}), "supported values: \"Best\", \"Last\""),
            ("/spec/training", json!({"maxPerplexityRise": "-1"}), DECIMAL),
            (
                "/spec/training",
                json!({"keep": "Last", "maxPerplexityRise": "5"}),
                "maxPerplexityRise says which check is the best",
            ),
            ("/spec/training", json!({"workers": 0}), "should be greater than or equal to 1"),
            ("/spec/training", json!({"workers": 9}), "should be less than or equal to 8"),
            ("/spec/training", json!({"extraArgs": [""]}), "should be at least 1 chars long"),
            ("/spec/evaluation", json!({"temperatures": ["0.7", "0.0"]}), TEMPERATURES),
            ("/spec/evaluation", json!({"temperatures": ["2.1"]}), TEMPERATURES),
            ("/spec/evaluation", json!({"temperatures": ["warm"]}), TEMPERATURES),
            ("/spec/evaluation", json!({"temperatures": ["1", "1", "1", "1", "1", "1"]}), "at most 5 items"),
            ("/spec/evaluation", json!({"metric": "SqlExecution"}), "databaseUri goes with metric SqlExecution"),
            ("/spec/evaluation", json!({"databaseUri": "pvc://data/x"}), "databaseUri goes with metric SqlExecution"),
            ("/spec/evaluation", json!({"metric": "SqlExecution", "databaseUri": "shop"}), VOLUME_URI),
            ("/spec/evaluation", json!({"metric": "SqlExecution", "databaseUri": "s3://bucket/shop"}), VOLUME_URI),
            ("/spec/evaluation", json!({"minSpeedup": "fast"}), DECIMAL),
            ("/spec/evaluation", json!({"maxQualityDrop": "-1"}), DECIMAL),
        ],
    )
    .await
}

/// Pods that train together need a workspace that several may use.
async fn workers_and_their_workspace(api: &Api<DynamicObject>) -> anyhow::Result<Vec<String>> {
    let together = with(training(), "/spec/training", json!({"workers": 2}));
    let workspaces = [
        json!({"claimName": "work"}),
        json!({"size": "5Gi"}),
        json!({"accessModes": ["ReadWriteOnce"]}),
        json!({"accessModes": ["ReadWriteMany"]}),
    ];
    all_admitted(api, &together, &workspaces.map(|workspace| ("/spec/workspace", workspace))).await?;
    let for_one_pod = json!({"accessModes": ["ReadWriteOncePod"]});
    all_admitted(api, &training(), &[("/spec/workspace", for_one_pod.clone())]).await?;
    let expected = "training.workers above 1 lets several Pods use the workspace at once";
    all_refused(api, &together, &[("/spec/workspace", for_one_pod, expected)]).await
}

/// Creates a training and tries to change each of its fields, to set absent ones and to remove present ones.
async fn immutable_fields(api: &Api<DynamicObject>) -> anyhow::Result<Vec<String>> {
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

#[tokio::test]
async fn models() -> anyhow::Result<()> {
    let namespace = TestNamespace::create(cluster().await?, "models").await?;
    let api = api::<CllmModel>(&namespace);
    let autoscaling = |value: Value| ("/spec/autoscaling", value);
    all_admitted(&api, &model(), &[
        ("/spec/model", json!({"trainingRef": {"name": "text2sql"}, "servedName": "org/text2sql:1"})),
        ("/spec/model", json!({"trainingRef": {"selector": {"matchLabels": {"task": "text2sql", "example.com/team": "data"}}}})),
        ("/spec/model/digest", json!(format!("sha256:{}", "0a".repeat(32)))),
        ("/spec/gates", json!({})),
        ("/spec/gates", json!({"minSpeedup": "1.5"})),
        ("/spec/gates", json!({
            "minSpeedup": "0", "promptsFrom": {"configMapRef": {"name": "prompts.v1", "key": "questions.jsonl"}}, "onFailure": "Block",
        })),
        ("/spec/paused", json!(true)),
        ("/spec/model/uri", json!("oci://registry/name")),
        ("/spec/model", json!({"trainingRef": {"name": "text2sql"}, "secretRef": {"name": "store"}, "endpoint": "http://minio:9000"})),
        ("/spec/model", json!({"uri": "hf://org/name@v1", "secretRef": {"name": "hub"}, "caBundleRef": {"name": "a", "key": "b.pem"}})),
        ("/spec/cache", json!({"claimName": "models"})),
        ("/spec/cache", json!({"size": "20Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]})),
        ("/spec/device", json!("cuda")),
        ("/spec/replicas", json!(0)),
        autoscaling(json!({"maxReplicas": 8, "targetTokensPerSecond": 400, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0}}})),
        autoscaling(json!({"minReplicas": 2, "maxReplicas": 2, "targetQueuedRequests": 4})),
        autoscaling(json!({"maxReplicas": 8, "targetTokensPerSecond": 400, "targetUtilization": 90, "targetQueuedRequests": 4})),
        ("/spec/server", json!({"maxTokensPerSecond": 1})),
        ("/spec", json!({
            "model": {"uri": "pvc://models/text2sql"}, "server": {"maxTokensPerSecond": 100},
            "autoscaling": {"maxReplicas": 8, "targetTokensPerSecond": 90},
        })),
        ("/spec/podDisruptionBudget", json!({"maxUnavailable": "34%"})),
        ("/spec/networkPolicy", json!({"ingressFrom": [{"podSelector": {}}]})),
    ])
    .await?;
    let seen = all_refused(
        &api,
        &model(),
        &[
            ("/metadata/name", json!("a".repeat(41)), NAME),
            ("/spec/model", json!({}), "model needs exactly one of uri (a checkpoint) and trainingRef"),
            (
                "/spec/model/trainingRef",
                json!({"name": "text2sql"}),
                "model needs exactly one of uri (a checkpoint) and trainingRef",
            ),
            ("/spec/model/uri", json!("oci://registry"), MODEL_URI),
            ("/spec/model/secretRef", json!({"name": "hub"}), ACCESS),
            ("/spec/model", json!({"uri": "hf://org/name", "endpoint": "mirror"}), ADDRESS),
            ("/spec/model", json!({"uri": "hf://org/name", "proxy": "proxy"}), PROXY),
            ("/spec/model/digest", json!("sha256:12"), "must be sha256: and 64 hexadecimal digits"),
            ("/spec/cache", json!({}), "cache needs claimName (an existing claim), or size"),
            (
                "/spec/cache",
                json!({"claimName": "models", "size": "1Gi"}),
                "cache is either an existing claim (claimName)",
            ),
            ("/spec/model/servedName", json!("a b"), "must contain only letters, digits and ._:/-"),
            ("/spec/model", json!({"trainingRef": {"name": "A"}}), "spec.model.trainingRef.name in body should match"),
            ("/spec/model", json!({"trainingRef": {}}), TRAINING_REFERENCE),
            (
                "/spec/model",
                json!({"trainingRef": {"name": "a", "selector": {"matchLabels": {"a": "b"}}}}),
                TRAINING_REFERENCE,
            ),
            ("/spec/model", json!({"trainingRef": {"selector": {}}}), "selector.matchLabels: Required value"),
            (
                "/spec/model",
                json!({"trainingRef": {"selector": {"matchLabels": {}}}}),
                "should have at least 1 properties",
            ),
            ("/spec/gates", json!({"minSpeedup": "fast"}), DECIMAL),
            ("/spec/gates", json!({"minSpeedup": "1.5", "onFailure": "Explode"}), "supported values: \"FallBackTo"),
            ("/spec/gates", json!({"promptsFrom": {}}), "promptsFrom.configMapRef: Required value"),
            (
                "/spec/gates",
                json!({"promptsFrom": {"configMapRef": {"name": "a", "key": "../b"}}}),
                "configMapRef.key in body should match",
            ),
            (
                "/spec/gates",
                json!({"promptsFrom": {"configMapRef": {"name": "A", "key": "b"}}}),
                "configMapRef.name in body should match",
            ),
            ("/spec/device", json!("tpu"), "supported values: \"cpu\", \"cuda\""),
            ("/spec/decoding", json!({"strategy": "Jacoby"}), "supported values: \"Jacobi\", \"Autoregressive\""),
            ("/spec/decoding", json!({"maxBlockSize": 0}), "should be greater than or equal to 1"),
            ("/spec/replicas", json!(-1), "should be greater than or equal to 0"),
            ("/spec/service", json!({"port": 0}), "should be greater than or equal to 1"),
        ],
    )
    .await?;
    let seen = [seen, refused_autoscaling(&api).await?].concat();
    let definitions = cllm_crds::definitions::all()?;
    check_every_rule_was_hit(&definitions[0], &seen)
}

/// What nothing can be scaled by.
async fn refused_autoscaling(api: &Api<DynamicObject>) -> anyhow::Result<Vec<String>> {
    let autoscaling = |value: Value, message: &'static str| ("/spec/autoscaling", value, message);
    all_refused(
        api,
        &model(),
        &[
            autoscaling(
                json!({"minReplicas": 3, "maxReplicas": 2, "targetQueuedRequests": 1}),
                "minReplicas must not be above",
            ),
            autoscaling(json!({"maxReplicas": 2}), "autoscaling needs a figure to scale on"),
            autoscaling(json!({"targetQueuedRequests": 1}), "spec.autoscaling.maxReplicas: Required value"),
            autoscaling(
                json!({"maxReplicas": 2, "targetUtilization": 91}),
                "targetUtilization in body should be less than or equal to 90",
            ),
            (
                "/spec",
                json!({
                    "model": {"uri": "pvc://models/text2sql"}, "server": {"maxTokensPerSecond": 100},
                    "autoscaling": {"maxReplicas": 8, "targetTokensPerSecond": 91, "targetUtilization": 70},
                }),
                "autoscaling.targetTokensPerSecond must be at most nine tenths of server.maxTokensPerSecond",
            ),
            ("/spec/server", json!({"maxTokensPerSecond": 0}), "should be greater than or equal to 1"),
        ],
    )
    .await
}

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
