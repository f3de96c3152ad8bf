//! What a model may be like, and with which message it is refused.

use cllm_crds::CllmModel;
use cllm_tests::TestNamespace;
use kube::Api;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::{
    ACCESS, ADDRESS, DECIMAL, MODEL_URI, NAME, PROXY, all_admitted, all_refused, api, check_every_rule_was_hit,
    cluster, model,
};

const TRAINING_REFERENCE: &str = "trainingRef needs exactly one of name (one training) and selector";

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
