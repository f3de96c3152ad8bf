//! What a training may be like, and with which message it is refused.

use cllm_crds::CllmTraining;
use cllm_tests::TestNamespace;
use kube::Api;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::immutable::immutable_fields;
use crate::support::{
    ACCESS, ADDRESS, DECIMAL, MODEL_URI, NAME, PROXY, all_admitted, all_refused, api, check_every_rule_was_hit,
    cluster, refusal, training, with,
};

const DATA_URI: &str = "must be s3://BUCKET/PATH (with * in the last part for several files), pvc://CLAIM/PATH";
const VOLUME_URI: &str = "must be pvc://CLAIM/PATH (a PersistentVolumeClaim of this namespace) or file:///PATH";
const OUTPUT: &str =
    "must be pvc://CLAIM/PATH (a folder of a PersistentVolumeClaim of this namespace) or s3://BUCKET/PREFIX";
const TEMPERATURES: &str = "each of temperatures must be a decimal as a string above 0 and at most 2";

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
