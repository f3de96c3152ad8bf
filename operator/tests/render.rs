//! What the two resources become: golden files of every object, and laws that no golden file can state.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

mod common;

use cllm_crds::{CllmModelStatus, CllmTraining};
use cllm_operator::model::{Resolution, ResolvedModel};
use cllm_operator::{Images, model, training};
use common::{fixture, images, with};
use serde_json::{Value, json};

fn training_objects(resource: Value) -> Vec<Value> {
    let resource: CllmTraining = serde_json::from_value(resource).unwrap();
    training::render(&training::validate(&resource, &images()).unwrap()).objects()
}

fn model_objects(resource: Value) -> Vec<Value> {
    let valid = model::validate(&serde_json::from_value(resource).unwrap(), &images()).unwrap();
    let checkpoint = match model::resolve(&valid, &[]) {
        Resolution::Resolved(checkpoint) => checkpoint,
        Resolution::Waiting { .. } => {
            ResolvedModel::new("pvc://models/text2sql/abc", Some("sha256:abc".to_owned())).unwrap()
        }
    };
    model::render(&valid, &checkpoint).objects()
}

fn as_yaml(objects: &[Value]) -> String {
    objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect::<Vec<_>>().join("---\n")
}

#[test]
fn trainings() {
    for name in ["training_minimal", "training_full", "training_local", "training_s3", "training_workers"] {
        insta::assert_snapshot!(name, as_yaml(&training_objects(fixture(name))));
    }
}

#[test]
fn models() {
    for name in ["model_minimal", "model_full", "model_cuda", "model_autoscaled", "model_gated", "model_downloaded"] {
        insta::assert_snapshot!(name, as_yaml(&model_objects(fixture(name))));
    }
}

#[test]
fn a_cache_for_one_node_is_rolled_out_in_place_and_what_downloads_nothing_talks_to_nobody() {
    let strategy = |resource: Value| {
        let deployment = model_objects(resource).into_iter().find(|object| object["kind"] == "Deployment").unwrap();
        deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"].clone()
    };
    let downloaded = || fixture("model_downloaded");
    for (pointer, value, surge) in [
        ("/spec/cache/accessModes", json!(["ReadWriteOnce"]), 0),
        ("/spec/cache/accessModes", json!(["ReadWriteMany"]), 1),
        ("/spec/cache", json!({"claimName": "models"}), 0),
        ("/spec/cache", Value::Null, 1),
        ("/spec/rollout", json!({"strategy": "Surge"}), 1),
    ] {
        assert_eq!(strategy(with(downloaded(), pointer, value.clone())), surge, "{pointer} {value}");
    }
    let egress = |objects: Vec<Value>| {
        let policy = objects.into_iter().find(|object| object["kind"] == "NetworkPolicy").unwrap();
        policy["spec"].get("egress").cloned()
    };
    assert_eq!(egress(model_objects(fixture("model_minimal"))), None);
    assert_eq!(egress(training_objects(fixture("training_full"))), None);
    assert!(
        egress(model_objects(downloaded())).is_some() && egress(training_objects(fixture("training_s3"))).is_some()
    );
}

#[test]
fn the_status_pins_the_image_against_another_version_of_the_operator() {
    let newer = Images::of_version("registry.example/", "9.9.9");
    let pinned = with(fixture("training_minimal"), "/status/image", json!("pinned:1"));
    let valid = training::validate(&serde_json::from_value(pinned).unwrap(), &newer).unwrap();
    let objects = as_yaml(&training::render(&valid).objects());
    assert!(objects.contains("pinned:1") && !objects.contains("9.9.9"));
}

#[test]
fn the_image_of_a_model_is_resolved_anew_only_when_its_spec_changes() {
    let image_of = |resource: Value, images: &Images| {
        let resource: cllm_crds::CllmModel = serde_json::from_value(resource).unwrap();
        let valid = model::validate(&resource, images).unwrap();
        let decision = model::decide(&valid, &[], &[]);
        let status =
            model::status(&valid, &decision, &model::Observed::default(), &CllmModelStatus::default(), common::at(0));
        (status.model.clone().unwrap().image, serde_json::to_value(status).unwrap())
    };
    let (old, new) = (Images::of_version("", "1"), Images::of_version("", "2"));
    let (image, status) = image_of(fixture("model_minimal"), &old);
    assert_eq!(image, "cllm-server:1");
    let running = with(fixture("model_minimal"), "/status", status);
    assert_eq!(image_of(running.clone(), &new).0, "cllm-server:1");
    assert_eq!(image_of(with(running.clone(), "/spec/replicas", json!(5)), &new).0, "cllm-server:1");
    assert_eq!(image_of(with(running, "/spec/server/drainSeconds", json!(5)), &new).0, "cllm-server:2");
}

#[test]
fn job_names_change_with_what_decides_over_the_result_and_with_nothing_else() {
    let names = |resource: Value| -> Vec<String> {
        let jobs = training_objects(resource).into_iter().filter(|object| object["kind"] == "Job");
        jobs.map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let full = || fixture("training_full");
    let before = names(full());
    assert_eq!(
        before.iter().map(|name| common::without_hash(name)).collect::<Vec<_>>(),
        ["text2sql-adapt", "text2sql-collect", "text2sql-train", "text2sql-evaluate"]
    );
    for (pointer, value) in [
        ("/spec/image", json!("other:1")),
        ("/spec/trajectories/parallelism", json!(4)),
        ("/spec/trajectories/concurrency", json!(4)),
        ("/spec/resources", Value::Null),
        ("/spec/training/resources", Value::Null),
        ("/spec/training/workers", json!(4)),
        ("/spec/training/gradientCheckpointing", json!(true)),
        ("/spec/training/keep", json!("Best")),
        ("/spec/nodeSelector", json!({"disk": "hdd"})),
        ("/spec/backoffLimit", json!(0)),
        ("/spec/evaluation/minSpeedup", json!("9")),
        ("/spec/suspend", json!(true)),
    ] {
        assert_eq!(names(with(full(), pointer, value)), before, "{pointer}");
    }
    // The first stage that a change concerns, and all after it.
    for (pointer, value, first) in [
        ("/spec/model/uri", json!("pvc://models/other"), 0),
        ("/spec/adaptation/learningRate", json!("0.1"), 0),
        ("/spec/trajectories/shards", json!(5), 1),
        ("/spec/dataset/maxExamples", json!(5), 1),
        ("/spec/training/steps", json!(5), 2),
        ("/spec/adaptation/keep", json!("Last"), 0),
        ("/spec/training/method", json!("LoRA"), 2),
        ("/spec/training/extraArgs", json!(["--decay=Cosine"]), 2),
        ("/spec/training/keep", json!("Last"), 2),
        ("/spec/training/maxPerplexityRise", json!("2.5"), 2),
        ("/spec/evaluation/temperatures", json!(["0.7"]), 3),
        ("/spec/dataset/testUri", json!("pvc://data/other.jsonl"), 3),
        ("/spec/output/uri", json!("pvc://models/other"), 3),
    ] {
        let after = names(with(full(), pointer, value));
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!(before == after, index < first, "{pointer}: Job {index}");
        }
    }
}

#[test]
fn extra_arguments_of_a_stage_are_its_own_and_stand_before_those_of_all() {
    let own = [
        ("adapt", "adaptation", "--method=LoRA"),
        ("collect", "trajectories", "--threads=4"),
        ("train", "training", "--decay=Cosine"),
        ("evaluate", "evaluation", "--seed=3"),
    ];
    let resource = own.into_iter().fold(fixture("training_full"), |resource, (_, stage, argument)| {
        with(resource, &format!("/spec/{stage}/extraArgs"), json!([argument]))
    });
    let arguments = |job: &Value| -> Vec<String> {
        serde_json::from_value(job["spec"]["template"]["spec"]["containers"][0]["args"].clone()).unwrap()
    };
    let objects = training_objects(resource.clone());
    let jobs: Vec<_> = objects.iter().filter(|object| object["kind"] == "Job").map(arguments).collect();
    for (found, (subcommand, _, argument)) in jobs.iter().zip(own) {
        assert_eq!((found[0].as_str(), found.last().map(String::as_str)), (subcommand, Some("--extra=1")));
        let others = own.iter().filter(|(_, _, other)| found.contains(&(*other).to_owned())).count();
        assert_eq!((found.contains(&argument.to_owned()), others), (true, 1), "{found:?}");
    }
    assert_eq!(jobs.len(), own.len());
    let training = training::validate(&serde_json::from_value(resource).unwrap(), &images()).unwrap();
    let report = serde_json::to_value(training::report(&training).unwrap()).unwrap();
    assert!(!arguments(&report).contains(&"--seed=3".to_owned()), "reading a report knows no arguments of evaluation");
}

#[test]
fn which_weights_are_kept_is_said_to_each_stage_that_trains() {
    let arguments = |resource: Value, stage: &str| {
        let objects = training_objects(resource);
        let job = objects.iter().find(|object| object["metadata"]["labels"]["cllm.dev/stage"] == stage).unwrap();
        let arguments = &job["spec"]["template"]["spec"]["containers"][0]["args"];
        serde_json::from_value::<Vec<String>>(arguments.clone()).unwrap()
    };
    for (pointer, value, stage, expected) in [
        ("/spec/adaptation/keep", json!("Last"), "adapt", "--keep=Last"),
        ("/spec/training/keep", json!("Last"), "train", "--keep=Last"),
        ("/spec/training/maxPerplexityRise", json!("2.5"), "train", "--max-perplexity-rise=2.5"),
    ] {
        for other in ["adapt", "train"] {
            let arguments = arguments(with(fixture("training_full"), pointer, value.clone()), other);
            assert_eq!(arguments.iter().any(|argument| argument == expected), other == stage, "{pointer}: {other}");
        }
    }
}

#[test]
fn processes_find_the_first_of_them_and_nobody_else_does() {
    let of_kind = |objects: &[Value], kind: &str| objects.iter().find(|object| object["kind"] == kind).cloned();
    let ports = |rules: &Value| {
        let rules = rules.as_array().unwrap().iter();
        let ports = rules.flat_map(|rule| rule["ports"].as_array().unwrap().iter().map(|port| port["port"].clone()));
        ports.collect::<Vec<_>>()
    };
    let alone = training_objects(with(fixture("training_workers"), "/spec/training/workers", json!(1)));
    assert_eq!(of_kind(&alone, "Service"), None);
    let policy = of_kind(&alone, "NetworkPolicy").unwrap();
    assert_eq!((ports(&policy["spec"]["ingress"]), policy["spec"].get("egress")), (vec![json!(9090)], None));

    for namespace in [json!("team"), Value::Null] {
        let objects = training_objects(with(fixture("training_workers"), "/metadata/namespace", namespace.clone()));
        let service = of_kind(&objects, "Service").unwrap();
        let job = objects.iter().find(|object| object["metadata"]["labels"]["cllm.dev/stage"] == "train").unwrap();
        let pod = &job["spec"]["template"];
        let selector = service["spec"]["selector"].as_object().unwrap();
        assert!(selector.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value), "{service}");
        assert_eq!(pod["spec"]["subdomain"], service["metadata"]["name"]);
        let host = format!(
            "{}-0.{}",
            job["metadata"]["name"].as_str().unwrap(),
            service["metadata"]["name"].as_str().unwrap()
        );
        let domain = namespace.as_str().map_or_else(String::new, |namespace| format!(".{namespace}.svc"));
        let coordinator = json!(format!("--coordinator={host}{domain}:7000"));
        assert!(pod["spec"]["containers"][0]["args"].as_array().unwrap().contains(&coordinator), "{pod}");

        let policy = of_kind(&objects, "NetworkPolicy").unwrap();
        assert_eq!(ports(&policy["spec"]["ingress"]), [9090, 7000]);
        assert_eq!(ports(&policy["spec"]["egress"]), [53, 53, 7000]);
        let peers = [&policy["spec"]["ingress"][1]["from"], &policy["spec"]["egress"][1]["to"]];
        let wanted = json!([{"podSelector": {"matchLabels": selector}}]);
        assert_eq!(peers, [&wanted, &wanted]);
    }
    let downloading = training_objects(with(fixture("training_s3"), "/spec/training/workers", json!(2)));
    let policy = of_kind(&downloading, "NetworkPolicy").unwrap();
    let names = policy["spec"]["egress"].as_array().unwrap().iter().filter(|rule| rule["ports"][0]["port"] == 53);
    assert_eq!(names.count(), 1, "names are looked up by one rule");
}

#[test]
fn a_job_keeps_its_name_in_a_cluster_and_follows_the_spec_in_local_mode() {
    let recorded =
        json!([{"name": "text2sql-collect-00000000", "stage": "Collecting", "active": 1, "succeeded": 0, "failed": 0}]);
    let has_recorded_name = |resource: Value| {
        let resource = with(resource, "/status/jobs", recorded.clone());
        training_objects(resource).iter().any(|object| object["metadata"]["name"] == "text2sql-collect-00000000")
    };
    assert!(has_recorded_name(fixture("training_full")));
    assert!(!has_recorded_name(fixture("training_local")));
}

#[test]
fn every_container_runs_one_binary_with_key_value_arguments_and_no_shell() {
    let resources = ["training_full", "training_local", "training_workers"].map(|name| training_objects(fixture(name)));
    let models = ["model_minimal", "model_full", "model_cuda", "model_autoscaled", "model_downloaded"]
        .map(|name| model_objects(fixture(name)));
    let mut containers = 0;
    for object in resources.iter().chain(&models).flatten() {
        let Some(pod) = object.pointer("/spec/template/spec") else { continue };
        assert_eq!(pod["automountServiceAccountToken"], false);
        for container in pod["containers"].as_array().unwrap() {
            containers += 1;
            let command = container["command"].as_array().unwrap();
            assert!(command == &[json!("cllm-trainer")] || command == &[json!("cllm-server")], "{command:?}");
            let is_trainer = command[0] == "cllm-trainer";
            for argument in container["args"].as_array().unwrap().iter().skip(usize::from(is_trainer)) {
                let argument = argument.as_str().unwrap();
                assert!(argument.starts_with("--") && argument.contains('='), "{argument}");
            }
            let is_users = |variable: &Value| variable == &json!({"name": "RUST_LOG", "value": "debug"});
            assert!(container.get("env").is_none_or(|env| env.as_array().unwrap().iter().all(is_users)), "{container}");
        }
    }
    assert_eq!(containers, 4 + 4 + 3 + 5);
}

#[test]
fn rollout_is_in_place_where_a_node_has_only_a_few_of_what_is_asked_for() {
    let surge = |resource: Value| {
        let objects = model_objects(resource);
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        deployment.pointer("/spec/strategy/rollingUpdate/maxSurge").unwrap().as_i64().unwrap()
    };
    let limits = |name: &str| json!({"limits": {name: "1"}});
    let minimal = || fixture("model_minimal");
    for (resource, expected) in [
        (minimal(), 1),
        (fixture("model_cuda"), 0),
        (with(minimal(), "/spec/resources", limits("amd.com/gpu")), 0),
        (with(minimal(), "/spec/resources", limits("memory")), 1),
        (with(minimal(), "/spec/resources", limits("ephemeral-storage")), 1),
        (with(minimal(), "/spec/rollout", json!({"strategy": "InPlace"})), 0),
        (with(fixture("model_cuda"), "/spec/rollout", json!({"strategy": "Surge"})), 1),
    ] {
        assert_eq!(surge(resource.clone()), expected, "{resource}");
    }
}

#[test]
fn cuda_asks_for_a_gpu_unless_the_limits_name_another_device() {
    let limits = |resource: Value| {
        let objects = model_objects(resource);
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        deployment.pointer("/spec/template/spec/containers/0/resources/limits").cloned().unwrap_or_default()
    };
    assert_eq!(limits(fixture("model_cuda")), json!({"nvidia.com/gpu": "1"}));
    let mig = json!({"limits": {"nvidia.com/mig-1g.5gb": "1"}});
    assert_eq!(limits(with(fixture("model_cuda"), "/spec/resources", mig.clone())), mig["limits"]);
    assert_eq!(limits(fixture("model_minimal")), Value::Null);
}

#[test]
fn the_taint_of_an_extended_resource_is_tolerated() {
    let tolerations = |resource: Value| {
        let objects = model_objects(resource);
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        deployment.pointer("/spec/template/spec/tolerations").cloned().unwrap_or_default()
    };
    let reserved = |name: &str| json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
    assert_eq!(tolerations(fixture("model_cuda")), json!([reserved("nvidia.com/gpu")]));
    let example = with(fixture("model_cuda"), "/spec/resources", json!({"limits": {"example.com/gpu": "1"}}));
    assert_eq!(tolerations(example.clone()), json!([reserved("example.com/gpu")]));
    let own = json!([{"key": "example.com/gpu", "operator": "Equal", "value": "ours"}]);
    assert_eq!(tolerations(with(example, "/spec/tolerations", own.clone())), own);
    assert_eq!(tolerations(fixture("model_minimal")), Value::Null);
}

#[test]
fn the_cap_is_an_argument_only_where_the_spec_has_one() {
    let caps = |resource: Value| -> Vec<Value> {
        let objects = model_objects(resource);
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let arguments = deployment.pointer("/spec/template/spec/containers/0/args").unwrap().as_array().unwrap();
        let is_cap = |argument: &&Value| argument.as_str().unwrap().starts_with("--max-tokens-per-second");
        arguments.iter().filter(is_cap).cloned().collect()
    };
    assert!(caps(fixture("model_minimal")).is_empty());
    let capped = with(fixture("model_minimal"), "/spec/server", json!({"maxTokensPerSecond": 50}));
    assert_eq!(caps(capped), [json!("--max-tokens-per-second=50")]);
}

#[test]
fn an_upgrade_of_the_operator_changes_nothing_that_runs() {
    let (old, new) = (Images::of_version("registry.example/", "1"), Images::of_version("registry.example/", "2"));
    for name in ["model_minimal", "model_full", "model_cuda", "model_autoscaled", "model_gated"] {
        let reconciled = |resource: &Value, images: &Images| {
            let resource: cllm_crds::CllmModel = serde_json::from_value(resource.clone()).unwrap();
            let valid = model::validate(&resource, images).unwrap();
            let training = with(fixture("training_minimal"), "/metadata/labels", json!({"task": "text2sql"}));
            let training: CllmTraining = serde_json::from_value(with(
                training,
                "/status",
                json!({
                    "output": {"uri": "pvc://models/text2sql/abc", "digest": "sha256:abc", "sizeBytes": 1},
                    "conditions": [{
                        "type": "Complete", "status": "True", "reason": "Succeeded", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }],
                }),
            ))
            .unwrap();
            let decision = model::decide(&valid, &[training], &[]);
            let Resolution::Resolved(checkpoint) = &decision.resolution else { return (Vec::new(), Value::Null) };
            let previous = resource.status.unwrap_or_default();
            let status = model::status(&valid, &decision, &model::Observed::default(), &previous, common::at(0));
            (model::render(&valid, checkpoint).objects(), serde_json::to_value(status).unwrap())
        };
        let (before, status) = reconciled(&fixture(name), &old);
        let (after, _) = reconciled(&with(fixture(name), "/status", status), &new);
        assert!(!before.is_empty() && before == after, "{name}");
    }
}

/// The image is resolved anew when this changes, so it must not change with the operator: a new field is left out where it has its default.
#[test]
fn the_hash_of_an_unchanged_spec_is_the_same_for_every_version_of_the_operator() {
    let hash = |name: &str| {
        let resource: cllm_crds::CllmModel = serde_json::from_value(fixture(name)).unwrap();
        let valid = model::validate(&resource, &images()).unwrap();
        let decision = model::decide(&valid, &[], &[]);
        let status = CllmModelStatus::default();
        model::status(&valid, &decision, &model::Observed::default(), &status, common::at(0)).model.unwrap().spec_hash
    };
    assert_eq!(["model_minimal", "model_autoscaled"].map(hash), ["949d732268798cc3", "da1076511e544c13"]);
}
