//! `cllm render`: what it prints, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use k8s_openapi::api::apps::v1::Deployment;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/data").join(name)
}

fn render(file: &Path) -> (i32, String, String) {
    let output = Command::cargo_bin("cllm").unwrap().arg("render").arg(file).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_training_and_its_model_become_objects() {
    let (code, stdout, stderr) = render(&data("shop.yaml"));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("CllmModel shop: the digest"), "{stderr}");
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&stdout).unwrap();
    let names: Vec<String> = objects
        .iter()
        .map(|object| format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap()))
        .map(|name| name.split_inclusive('-').filter(|part| !is_hash(part)).collect())
        .collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    PersistentVolumeClaim shop-training-workspace
    NetworkPolicy shop-training
    Job shop-adapt-
    Job shop-collect-
    Job shop-train-
    Job shop-evaluate-
    NetworkPolicy shop-model
    Deployment shop-model
    Service shop
    PodDisruptionBudget shop-model
    ");
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let deployment: Deployment = serde_json::from_value(deployment.clone()).unwrap();
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.replicas, Some(2));
    let args = spec.template.spec.unwrap().containers.remove(0).args.unwrap();
    assert_eq!(args[0], format!("--model=/claims/models/shop/{}", "0".repeat(64)));
}

/// Names of Jobs end with a hash of their inputs, which is the operator's to test.
fn is_hash(part: &str) -> bool {
    part.len() == 8 && part.chars().all(|character| character.is_ascii_hexdigit())
}

#[test]
fn rendering_twice_prints_the_same() {
    assert_eq!(render(&data("shop.yaml")), render(&data("shop.yaml")));
}

#[test]
fn input_that_is_wrong_is_refused_with_file_document_and_field() {
    let good = fs::read_to_string(data("shop.yaml")).unwrap();
    let cases = [
        (
            "uri: pvc://data/train.jsonl",
            "url: pvc://data/train.jsonl",
            "document 1 (CllmTraining shop): unknown field spec.dataset.url",
        ),
        ("{ shards: 3,", "{ shard: 3,", "unknown field spec.trajectories.shard; did you mean shards?"),
        (
            "replicas: 2",
            "replica: 2",
            "document 2 (CllmModel shop): unknown field spec.replica; did you mean replicas?",
        ),
        ("metadata: { name: shop }", "metadata: { name: shop, label: {} }", "unknown field metadata.label"),
        ("replicas: 2", "replicas: two", "spec.replicas is \"two\"; it must be a whole number"),
        ("replicas: 2", "replicas: -1", "spec.replicas is -1; it must be at least 0"),
        ("\"1.3\"", "1.3", "spec.evaluation.minSpeedup is 1.3; it must be a string"),
        ("\"1.3\"", "fast", "spec.evaluation.minSpeedup"),
        ("{ maxBlockSize: 8 }", "{ strategy: jacobi }", "spec.decoding.strategy is \"jacobi\"; it must be one of"),
        ("output: { uri: pvc://models/shop }", "output: {}", "spec.output.uri is missing"),
        ("drainSeconds: 5", "drainSeconds: yes", "spec.server.drainSeconds is \"yes\"; it must be a whole number"),
        ("pvc://data/target", "git://org/name", "`git://org/name` is not a place"),
        ("replicas: 2", "tolerations: [{ keys: x }]", "unknown field spec.tolerations[0].keys"),
        (
            "kind: CllmModel",
            "kind: Deployment",
            "document 2 (Deployment shop): kind is \"Deployment\"; it must be CllmTraining or CllmModel",
        ),
        ("apiVersion: cllm.dev/v1alpha1\nkind: CllmModel", "apiVersion: v1\nkind: CllmModel", "apiVersion is \"v1\""),
        ("metadata: { name: shop }", "metadata: {}", "metadata.name is missing"),
        ("metadata: { name: shop }", "metadata: { name: Shop }", "metadata.name"),
        (
            "trainingRef: { name: shop }",
            "trainingRef: { name: other }",
            "names CllmTraining other, which is not in this file",
        ),
        ("trainingRef: { name: shop }", "trainingRef: { name: shop }, uri: pvc://data/x", "exactly one of uri"),
        ("replicas: 2", "replicas: 2\n  replicas: 3", "is not valid YAML"),
        ("replicas: 2", "replicas: [2", "is not valid YAML"),
        ("kind: CllmModel", "kind: CllmTraining", "is in this file twice"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (found, replacement, expected) in cases {
        assert!(good.contains(found), "{found}");
        let file = folder.path().join("case.yaml");
        let mut text = good.replacen(found, replacement, 1);
        if replacement == "kind: CllmTraining" {
            // the same object twice
            text = good.replace(good.split_once("---").unwrap().1, &format!("\n{}", good.split_once("---").unwrap().0));
        }
        fs::write(&file, text).unwrap();
        let (code, stdout, stderr) = render(&file);
        assert_eq!((code, stdout.as_str()), (2, ""), "{replacement}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains("case.yaml"), "{replacement}: {stderr}");
        assert!(stderr.contains(expected), "{replacement}: {stderr}");
    }
}

#[test]
fn files_that_are_missing_or_empty_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, empty) = (folder.path().join("missing.yaml"), folder.path().join("empty.yaml"));
    fs::write(&empty, "# nothing\n---\n").unwrap();
    for (file, expected) in [(&missing, "cannot read"), (&empty, "contains no document")] {
        let (code, _, stderr) = render(file);
        assert_eq!(code, 2);
        assert!(stderr.contains(expected) && stderr.contains(&*file.to_string_lossy()), "{stderr}");
    }
}

#[test]
fn what_yaml_1_1_would_misread_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labels.yaml");
    let labels = ["yes", "on", "n", "1e3", "0x10", "012", "null", "~", "1.0", "2024-01-01", "1:20", "", "<<", "="];
    let lines: Vec<String> = labels
        .iter()
        .enumerate()
        .map(|(index, label)| {
            format!(
                "    l{index}: \"{label}\"
"
            )
        })
        .collect();
    let lines = lines.concat();
    let text = format!(
        "apiVersion: cllm.dev/v1alpha1\nkind: CllmModel\nmetadata: {{ name: m }}\nspec:\n  model: {{ uri: 'file:///m' }}\n  \
         podLabels:\n{lines}"
    );
    fs::write(&file, text).unwrap();
    let (code, stdout, stderr) = render(&file);
    assert_eq!(code, 0, "{stderr}");
    for (index, label) in labels.iter().enumerate() {
        let line = stdout.lines().find(|line| line.trim_start().starts_with(&format!("l{index}: "))).unwrap();
        let value = line.split_once(": ").unwrap().1;
        assert!(value.starts_with(['"', '\'']), "{label} is printed as {value}");
    }
}

#[test]
fn help_names_the_plugin() {
    let output = Command::cargo_bin("cllm").unwrap().arg("--help").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("kubectl-cllm"));
}
