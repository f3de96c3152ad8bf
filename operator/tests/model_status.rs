//! Which checkpoint a model serves, and what its status says while its replicas come and go.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, where a panic is a failure")]

mod common;

use cllm_crds::status_page::{ServerStatus, ServerThroughput};
use cllm_crds::{ArtifactProgress, CllmModel, CllmModelStatus, CllmTraining};
use cllm_operator::model::{Observed, Replica, Resolution, decide, refused, resolve, status, template_hash, validate};
use common::{answering, at, fixture, images, with};
use serde_json::{Value, json};

fn model(resource: Value) -> CllmModel {
    serde_json::from_value(resource).unwrap()
}

fn follower() -> Value {
    with(fixture("model_minimal"), "/spec/model", json!({"trainingRef": {"name": "text2sql"}}))
}

fn training(status: Value) -> CllmTraining {
    serde_json::from_value(with(fixture("training_minimal"), "/status", status)).unwrap()
}

fn complete(uri: &str) -> Value {
    json!({
        "stage": "Succeeded",
        "output": {"uri": uri, "digest": "sha256:abc", "sizeBytes": 1},
        "conditions": [condition("Complete", "True", "Succeeded")],
    })
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn resolution(resource: Value, training: Option<&CllmTraining>) -> Resolution {
    resolve(&validate(&model(resource), &images()).unwrap(), training.map(std::slice::from_ref).unwrap_or_default())
}

fn waiting(resolution: Resolution) -> (&'static str, String) {
    match resolution {
        Resolution::Waiting { reason, message } => (reason, message),
        Resolution::Resolved(model) => panic!("resolved: {model:?}"),
    }
}

fn uri(resolution: Resolution) -> String {
    match resolution {
        Resolution::Resolved(model) => model.uri().to_owned(),
        Resolution::Waiting { message, .. } => panic!("waiting: {message}"),
    }
}

#[test]
fn a_training_is_followed_only_when_its_gates_passed() {
    let (reason, message) = waiting(resolution(follower(), None));
    assert_eq!(reason, "TrainingNotFound");
    assert!(message.contains("CllmTraining text2sql does not exist"), "{message}");

    let running = training(json!({"stage": "Training", "conditions": [condition("Complete", "False", "Running")]}));
    let (reason, message) = waiting(resolution(follower(), Some(&running)));
    assert!(reason == "TrainingNotComplete" && message.contains("stage Training"), "{message}");

    let mut gate_missed = complete("pvc://models/text2sql/abc");
    gate_missed["conditions"] =
        json!([condition("Complete", "False", "GateFailed"), condition("Failed", "True", "GateFailed")]);
    assert_eq!(waiting(resolution(follower(), Some(&training(gate_missed)))).0, "TrainingFailed");

    let passed = training(complete("pvc://models/text2sql/abc"));
    assert_eq!(uri(resolution(follower(), Some(&passed))), "pvc://models/text2sql/abc");
}

fn deployment(status: &Value) -> Observed {
    let value = json!({
        "metadata": {"generation": 2},
        "spec": {"selector": {}, "template": {}},
        "status": status,
    });
    Observed { deployment: Some(serde_json::from_value(value).unwrap()), ..Observed::default() }
}

fn page(digest: &str, tokens_per_second: f64) -> ServerStatus {
    let measured_at = "2026-01-01T00:00:00Z".to_owned();
    let throughput = ServerThroughput { tokens_per_second, tokens_per_forward: 3.0, measured_at };
    ServerStatus { throughput: Some(throughput), ..answering(digest) }
}

fn replicas(pages: Vec<ServerStatus>) -> Vec<Replica> {
    pages.into_iter().map(|page| Replica { page: Some(page), ..Replica::default() }).collect()
}

fn derive(resource: Value, observed: &Observed) -> CllmModelStatus {
    let valid = validate(&model(resource), &images()).unwrap();
    status(&valid, &decide(&valid, &[], &[]), observed, &CllmModelStatus::default(), at(0))
}

fn word(status: &CllmModelStatus, type_: &str) -> String {
    let condition = status.conditions.iter().find(|condition| condition.type_ == type_);
    condition.map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
}

#[test]
fn ready_is_what_the_deployment_reached() {
    let two = || with(fixture("model_minimal"), "/spec/replicas", json!(2));
    let gave_up = json!([{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet x has timed out progressing."
    }]);
    let not_created = derive(two(), &Observed::default());
    assert_eq!(
        (word(&not_created, "Ready"), word(&not_created, "Reconciling")),
        ("False/Progressing".into(), "True/Progressing".into())
    );
    for ([observed, total, updated, ready], conditions, expected) in [
        ([1, 2, 2, 2], json!([]), "False/Progressing False/Progressing"),
        ([2, 1, 1, 0], json!([]), "False/Progressing False/Progressing"),
        ([2, 3, 2, 3], json!([]), "False/Progressing False/Progressing"),
        ([2, 2, 2, 1], json!([]), "False/ReplicasNotReady False/ReplicasNotReady"),
        ([2, 2, 2, 2], json!([]), "True/AsDeclared False/AsDeclared"),
        ([2, 2, 2, 0], gave_up, "False/ProgressDeadlineExceeded True/ProgressDeadlineExceeded"),
    ] {
        let observed = deployment(&json!({
            "observedGeneration": observed, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready,
            "conditions": conditions,
        }));
        let status = derive(two(), &observed);
        assert_eq!(format!("{} {}", word(&status, "Ready"), word(&status, "Stalled")), expected, "{observed:?}");
    }
    let none = with(fixture("model_minimal"), "/spec/replicas", json!(0));
    assert_eq!(word(&derive(none, &deployment(&json!({"observedGeneration": 2}))), "Ready"), "False/ScaledToZero");
}

#[test]
fn what_the_replicas_say_of_themselves_is_on_the_status() {
    let mut observed =
        deployment(&json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}));
    let knowing = |capacity| ServerStatus { capacity_tokens_per_second: Some(capacity), ..page("sha256:abc", 100.0) };
    observed.replicas = replicas(vec![knowing(300.0), knowing(200.5)]);
    let throughput = derive(fixture("model_minimal"), &observed).throughput.unwrap();
    assert_eq!(throughput.capacity_tokens_per_second.as_deref(), Some("500.5"));
    observed.replicas = replicas(vec![page("sha256:abc", 100.0), page("sha256:abc", 150.5)]);
    let status = derive(fixture("model_minimal"), &observed);
    let served = status.model.clone().unwrap();
    assert_eq!((served.digest.as_deref(), served.parameters), (Some("sha256:abc"), Some(42)));
    assert_eq!(status.throughput.clone().unwrap().tokens_per_second, "250.5");
    assert_eq!(status.throughput.clone().unwrap().tokens_per_forward, "3.00");
    assert_eq!(status.throughput.clone().unwrap().capacity_tokens_per_second, None, "one does not know it");
    assert_eq!(status.effective_strategy.as_deref(), Some("Jacobi"));
    assert_eq!(status.url.as_deref(), Some("http://text2sql.team.svc"));
    assert_eq!(status.selector.as_deref(), Some("app.kubernetes.io/name=cllm-server,cllm.dev/model=text2sql"));
    assert_eq!(word(&status, "ModelLoaded"), "True/Loaded");
}

#[test]
fn the_replica_that_needs_longest_says_how_far_the_download_is() {
    let downloading = |bytes_done| ArtifactProgress { bytes_done, bytes_total: 100, ..ArtifactProgress::default() };
    let mut observed = deployment(&json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3}));
    let page_with = |artifact| ServerStatus { artifact, ..page("", 1.0) };
    observed.replicas = replicas([Some(downloading(70)), None, Some(downloading(20))].map(page_with).into());
    assert_eq!(derive(fixture("model_downloaded"), &observed).artifact, Some(downloading(20)));
    observed.replicas.clear();
    assert_eq!(derive(fixture("model_downloaded"), &observed).artifact, None);
}

#[test]
fn a_replica_with_the_old_weights_has_not_loaded_the_new_ones() {
    let valid = validate(&model(follower()), &images()).unwrap();
    let passed = training(complete("pvc://models/text2sql/abc"));
    let decision = decide(&valid, &[passed], &[]);
    let mut observed =
        deployment(&json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1}));
    for (digest, expected) in [("sha256:old", "False/Loading"), ("sha256:abc", "True/Loaded")] {
        observed.replicas = replicas(vec![page(digest, 1.0)]);
        let status = status(&valid, &decision, &observed, &CllmModelStatus::default(), at(0));
        assert_eq!(word(&status, "ModelLoaded"), expected);
        assert_eq!(status.model.unwrap().digest.as_deref(), Some("sha256:abc"));
    }
}

#[test]
fn a_model_that_waits_says_for_what() {
    let status = derive(follower(), &Observed::default());
    assert_eq!(word(&status, "Ready"), "False/TrainingNotFound");
    assert_eq!(word(&status, "Reconciling"), "True/TrainingNotFound");
    assert_eq!(word(&status, "ModelLoaded"), "False/TrainingNotFound");
    assert_eq!(status.model, None);
}

#[test]
fn a_model_stays_ready_while_its_autoscaler_adds_replicas() {
    // Of 2 to 8 replicas five are wanted.
    let resource = || with(fixture("model_autoscaled"), "/spec/replicas", json!(5));
    for (total, updated, ready, expected) in [
        (2, 2, 2, "True/Scaling"),
        (5, 5, 2, "True/Scaling"),
        (5, 5, 5, "True/AsDeclared"),
        (5, 5, 1, "False/ReplicasNotReady"),
        (5, 4, 4, "False/Progressing"),
        (0, 0, 0, "False/Progressing"),
    ] {
        let replicas =
            json!({"observedGeneration": 2, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready});
        let found = word(&derive(resource(), &deployment(&replicas)), "Ready");
        assert_eq!(found, expected, "{total} {updated} {ready}");
    }
}

#[test]
fn a_model_stays_ready_until_its_deployment_has_taken_up_a_new_number_of_replicas() {
    let resource = with(fixture("model_autoscaled"), "/spec/replicas", json!(5));
    let valid = validate(&model(resource), &images()).unwrap();
    let decision = decide(&valid, &[], &[]);
    let Resolution::Resolved(checkpoint) = &decision.resolution else { panic!("{decision:?}") };
    let now = template_hash(&valid, checkpoint);
    for (templates, expected) in [
        (vec![now.as_str(); 2], "True/Scaling"),
        (vec!["before", now.as_str()], "False/Progressing"),
        (vec!["before"; 2], "False/Progressing"),
        (vec![], "False/Progressing"),
    ] {
        let not_taken_up = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});
        let mut observed = deployment(&not_taken_up);
        let made_from = |template: &&str| Replica { template: Some((*template).to_owned()), ..Replica::default() };
        observed.replicas = templates.iter().map(made_from).collect();
        let found = status(&valid, &decision, &observed, &CllmModelStatus::default(), at(0));
        assert_eq!(word(&found, "Ready"), expected, "{templates:?}");
    }
}

#[test]
fn a_refused_model_keeps_what_it_served() {
    let previous = CllmModelStatus { ready_replicas: 1, ..CllmModelStatus::default() };
    let status = refused(&previous, Some(3), ("InvalidSpec", "Correct it.".to_owned()), at(0));
    assert_eq!(status.ready_replicas, 1);
    assert_eq!(
        (word(&status, "Stalled"), word(&status, "Ready")),
        ("True/InvalidSpec".to_owned(), "False/InvalidSpec".to_owned())
    );
    assert_eq!(status.observed_generation, Some(3));
}
