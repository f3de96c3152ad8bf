//! What is refused, and the sentence that a person reads.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

mod common;

use common::{fixture, images, with};
use serde_json::{Value, json};

fn training_error(pointer: &str, value: Value) -> String {
    let resource = with(fixture("training_full"), pointer, value);
    cllm_operator::training::validate(&serde_json::from_value(resource).unwrap(), &images()).unwrap_err().to_string()
}

fn model_error(pointer: &str, value: Value) -> String {
    let resource = with(fixture("model_autoscaled"), pointer, value);
    cllm_operator::model::validate(&serde_json::from_value(resource).unwrap(), &images()).unwrap_err().to_string()
}

#[test]
fn trainings() {
    for (pointer, value, expected) in [
        ("/metadata/name", json!("Text2SQL"), "metadata.name `Text2SQL` cannot be used"),
        ("/metadata/name", json!("a".repeat(41)), "at most 40 characters"),
        ("/metadata/name", json!("text-"), "start with a letter"),
        (
            "/spec/model/uri",
            json!("git://org/name"),
            "spec.model.uri: `git://org/name` is not a place that can be used here",
        ),
        ("/spec/dataset/uri", json!("hf://org/name"), "spec.dataset.uri: `hf://org/name`"),
        ("/spec/evaluation/databaseUri", json!("s3://data/a"), "spec.evaluation.databaseUri: `s3://data/a`"),
        ("/spec/model/secretRef", json!({"name": "hub"}), "spec.model.secretRef, endpoint"),
        ("/spec/dataset/endpoint", json!("http://minio"), "spec.dataset.secretRef, endpoint"),
        ("/spec/output/region", json!("eu-1"), "spec.output.secretRef, endpoint"),
        ("/spec/output/uri", json!("s3://models"), "spec.output.uri: `s3://models`"),
        ("/spec/dataset/uri", json!("/data/train.jsonl"), "spec.dataset.uri: `/data/train.jsonl`"),
        ("/spec/dataset/validationUri", json!("pvc://data/../x"), "spec.dataset.validationUri: `pvc://data/../x`"),
        ("/spec/dataset/testUri", json!("pvc://data/$(id)"), "spec.dataset.testUri: `pvc://data/$(id)`"),
        ("/spec/evaluation/databaseUri", json!("shop.sqlite"), "spec.evaluation.databaseUri: `shop.sqlite`"),
        (
            "/spec/evaluation/databaseUri",
            Value::Null,
            "databaseUri goes with metric SqlExecution: set both, or neither",
        ),
        ("/spec/evaluation/metric", json!("ExactMatch"), "databaseUri goes with metric SqlExecution"),
        ("/spec/output/uri", json!("file:///output"), "spec.output.uri `file:///output` cannot keep a result"),
        ("/spec/output/uri", json!("pvc://models/"), "cannot keep a result"),
        ("/spec/output/uri", json!("pvc://models/*"), "spec.output.uri: `pvc://models/*`"),
        ("/spec/adaptation/steps", json!(5), "exactly one of epochs and steps"),
        ("/spec/adaptation/epochs", Value::Null, "exactly one of epochs and steps"),
        ("/spec/adaptation/learningRate", json!("1e-3"), "spec.adaptation.learningRate: `1e-3` is not a decimal"),
        ("/spec/training/learningRate", json!("0.0"), "spec.training.learningRate is 0"),
        (
            "/spec/training/autoregressiveWeight",
            json!("ten"),
            "spec.training.autoregressiveWeight: `ten` is not a decimal",
        ),
        ("/spec/training/lora", json!({}), "spec.training.lora describes the adapters of method LoRA"),
        (
            "/spec/training",
            json!({"method": "LoRA", "lora": {"alpha": "much"}}),
            "spec.training.lora.alpha: `much` is not a decimal",
        ),
        ("/spec/training", json!({"method": "LoRA", "lora": {"alpha": "0"}}), "spec.training.lora.alpha is 0"),
        (
            "/spec/training",
            json!({"keep": "Last", "maxPerplexityRise": "5"}),
            "spec.training.maxPerplexityRise says which check is the best",
        ),
        ("/spec/training/maxPerplexityRise", json!("much"), "spec.training.maxPerplexityRise: `much` is not a decimal"),
        ("/spec/evaluation/temperatures", json!(["0.7", "0"]), "spec.evaluation.temperatures has `0`"),
        ("/spec/evaluation/temperatures", json!(["2.1"]), "spec.evaluation.temperatures has `2.1`"),
        ("/spec/evaluation/temperatures", json!(["warm"]), "spec.evaluation.temperatures has `warm`"),
        ("/spec/evaluation/minSpeedup", json!("fast"), "spec.evaluation.minSpeedup: `fast`"),
        ("/spec/evaluation/maxQualityDrop", json!(""), "spec.evaluation.maxQualityDrop: ``"),
        ("/spec/workspace/claimName", json!("work"), "either an existing claim (claimName) or a new one"),
        ("/spec/workspace", json!({"claimName": "No"}), "spec.workspace.claimName `No`"),
    ] {
        let error = training_error(pointer, value);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn a_workspace_for_one_pod_is_refused_where_several_train_together() {
    for (workers, mode, is_refused) in [
        (1, "ReadWriteOncePod", false),
        (2, "ReadWriteOncePod", true),
        (2, "ReadWriteOnce", false),
        (2, "ReadWriteMany", false),
    ] {
        let resource = with(fixture("training_workers"), "/spec/training/workers", json!(workers));
        let resource = with(resource, "/spec/workspace/accessModes", json!([mode]));
        let checked = cllm_operator::training::validate(&serde_json::from_value(resource).unwrap(), &images());
        let error = checked.map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(error.contains("which ReadWriteOncePod forbids"), is_refused, "{workers} {mode}: {error}");
    }
}

#[test]
fn models() {
    for (pointer, value, expected) in [
        ("/metadata/name", json!("2sql"), "metadata.name `2sql` cannot be used"),
        ("/spec/model", json!({}), "exactly one of uri (a checkpoint) and trainingRef"),
        ("/spec/model/trainingRef", json!({"name": "a"}), "exactly one of uri (a checkpoint) and trainingRef"),
        ("/spec/model", json!({"trainingRef": {"name": "A"}}), "spec.model.trainingRef.name `A`"),
        ("/spec/model", json!({"trainingRef": {}}), "spec.model.trainingRef needs exactly one of name"),
        (
            "/spec/model",
            json!({"trainingRef": {"name": "a", "selector": {"matchLabels": {"a": "b"}}}}),
            "spec.model.trainingRef needs exactly one of name",
        ),
        ("/spec/model", json!({"trainingRef": {"selector": {"matchLabels": {}}}}), "by matchLabels"),
        ("/spec/model/digest", json!("sha256:ABC"), "spec.model.digest `sha256:ABC` must be sha256:"),
        ("/spec/gates", json!({"minSpeedup": "fast"}), "spec.gates.minSpeedup: `fast` is not a decimal"),
        ("/spec/model/uri", json!("s3://bucket"), "spec.model.uri: `s3://bucket`"),
        ("/spec/model/digest", json!("sha256:12"), "spec.model.digest `sha256:12`"),
        ("/spec/model/proxy", json!("http://proxy:1"), "go with a checkpoint that is downloaded"),
        ("/spec/cache", json!({}), "spec.cache needs either claimName"),
        ("/spec/cache", json!({"claimName": "a", "size": "1Gi"}), "spec.cache needs either claimName"),
        ("/spec/model/servedName", json!("a b"), "spec.model.servedName `a b`"),
        ("/spec/model/servedName", json!("-a"), "spec.model.servedName `-a`"),
        ("/spec/autoscaling/minReplicas", json!(9), "minReplicas (9) is above maxReplicas (8)"),
        ("/spec/autoscaling", json!({"maxReplicas": 2}), "needs a figure to scale on"),
        (
            "/spec/server",
            json!({"maxTokensPerSecond": 444}),
            "targetTokensPerSecond (400) must be at most nine tenths of spec.server.maxTokensPerSecond (444)",
        ),
    ] {
        let error = model_error(pointer, value);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn a_target_that_the_cap_leaves_room_for_is_good() {
    let resource = with(fixture("model_autoscaled"), "/spec/server", json!({"maxTokensPerSecond": 445}));
    assert!(cllm_operator::model::validate(&serde_json::from_value(resource).unwrap(), &images()).is_ok());
}
