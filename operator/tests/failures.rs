//! What the operator makes of the statuses of Pods, and how it shows on both resources.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

mod common;

use cllm_crds::status_page::JobStage::{Collecting, Training};
use cllm_crds::{CllmModelStatus, Failure};
use cllm_operator::failure::{PodFailure, failures, job_refusal, last, refusal, sentence};
use cllm_operator::model;
use common::{Executor, at, fixture, images, training};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

const CREATED: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    "2026-01-01T12:10:00Z".parse().unwrap()
}

fn pod(name: &str, created: &str, case: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "team", "uid": name, "creationTimestamp": created},
        "spec": {"nodeName": "node-1", "containers": [{"name": "server", "resources": {"limits": {"memory": "512Mi"}}}]},
        "status": case["status"],
    });
    if let Some(job) = case["job"].as_str() {
        pod["metadata"]["labels"] =
            json!({"batch.kubernetes.io/job-name": job, "cllm.dev/stage": case["stage"].as_str().unwrap_or("-")});
        pod["spec"]["containers"][0]["name"] = json!("trainer");
    }
    if case["volumes"].is_array() {
        pod["spec"]["volumes"] = case["volumes"].clone();
        pod["spec"]["containers"][0]["volumeMounts"] = case["mounts"].clone();
    }
    if let Some(time) = case["deletionTimestamp"].as_str() {
        pod["metadata"]["deletionTimestamp"] = json!(time);
    }
    serde_json::from_value(pod).unwrap()
}

fn events(uid: &str, list: &Value) -> Vec<Event> {
    let of = |event: &Value| {
        let mut event = event.clone();
        event["involvedObject"] = json!({"uid": uid});
        event["metadata"] = json!({});
        serde_json::from_value(event).unwrap()
    };
    list.as_array().into_iter().flatten().map(of).collect()
}

#[test]
fn every_recorded_status_is_put_into_words() {
    for case in fixture("pod_failures").as_array().unwrap() {
        let found = failures(&[pod("text2sql-0", CREATED, case)], &events("text2sql-0", &case["events"]), now());
        let (name, expected) = (&case["case"], &case["expected"]);
        if expected.is_null() {
            assert!(found.is_empty(), "{name}: {found:?}");
            continue;
        }
        let [PodFailure { failure, job, is_current }] = found.as_slice() else { panic!("{name}: {found:?}") };
        assert_eq!(failure.pod.as_deref(), Some("text2sql-0"), "{name}");
        assert_eq!(json!(failure.reason), expected["reason"], "{name}: {failure:?}");
        assert_eq!(json!(failure.container), expected["container"], "{name}: {failure:?}");
        assert_eq!(json!(failure.exit_code), expected["exitCode"], "{name}: {failure:?}");
        assert_eq!(json!(job), case["job"], "{name}");
        assert_eq!(*is_current, expected["isCurrent"].as_bool().unwrap_or(true), "{name}");
        if let Some(time) = expected["time"].as_str() {
            assert_eq!(failure.time.as_ref().unwrap().0, time.parse().unwrap(), "{name}");
        }
        for says in expected["says"].as_array().unwrap() {
            assert!(failure.message.contains(says.as_str().unwrap()), "{name}: {}", failure.message);
        }
        assert!(failure.message.ends_with('.') && !failure.message.contains(".."), "{name}: {}", failure.message);
    }
}

fn failed_trainer(job: &str, finished_at: &str) -> Value {
    let terminated = json!({"exitCode": 1, "reason": "Error", "finishedAt": finished_at, "message": "no space left"});
    json!({"job": job, "status": {"phase": "Failed", "containerStatuses": [{
        "name": "trainer", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated},
    }]}})
}

#[test]
fn a_failed_pod_of_a_job_holds_until_another_takes_its_place() {
    let first = pod("a", CREATED, &failed_trainer("collect", "2026-01-01T12:08:00Z"));
    assert!(failures(std::slice::from_ref(&first), &[], now())[0].is_current);
    let running = json!({"job": "collect", "status": {"phase": "Running"}});
    let second = pod("b", "2026-01-01T12:08:10Z", &running);
    assert!(!failures(&[first.clone(), second.clone()], &[], now())[0].is_current);
    let with_index = |pod: &Pod, index: &str| {
        let mut pod = pod.clone();
        let annotation = ("batch.kubernetes.io/job-completion-index".to_owned(), index.to_owned());
        pod.metadata.annotations.get_or_insert_default().extend([annotation]);
        pod
    };
    let another_shard = [with_index(&first, "0"), with_index(&second, "1")];
    assert!(failures(&another_shard, &[], now())[0].is_current);
}

#[test]
fn the_last_failure_is_the_newest_and_outlives_its_pod() {
    let found = failures(
        &[
            pod("old", CREATED, &failed_trainer("collect", "2026-01-01T12:02:00Z")),
            pod("new", CREATED, &failed_trainer("collect", "2026-01-01T12:08:00Z")),
            pod("older", CREATED, &failed_trainer("collect", "2026-01-01T12:01:00Z")),
        ],
        &[],
        now(),
    );
    let newest = last(&found, None).unwrap();
    assert_eq!(newest.pod.as_deref(), Some("new"));
    assert_eq!(last(&[], Some(&newest)), Some(newest.clone()));
    assert_eq!(last(&found[1..2], Some(&newest)).unwrap().pod.as_deref(), Some("new"));
    assert_eq!(last(&[], None), None);
}

#[test]
fn what_refuses_pods_is_named_without_their_generated_names() {
    let deployment = |pod: &str| {
        let message = format!(
            "pods \"{pod}\" is forbidden: exceeded quota: small, requested: limits.memory=2Gi, used: limits.memory=0, limited: limits.memory=1Gi"
        );
        serde_json::from_value(json!({
            "metadata": {}, "spec": {"selector": {}, "template": {}},
            "status": {"conditions": [{
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message, "lastTransitionTime": CREATED,
            }]},
        }))
        .unwrap()
    };
    let found = refusal(&deployment("text2sql-model-abc-x")).unwrap();
    assert_eq!(Some(found.clone()), refusal(&deployment("text2sql-model-abc-y")));
    assert_eq!(found.failure.reason, "PodsRefused");
    assert!(found.failure.message.contains("exceeded quota: small") && found.failure.message.contains("ResourceQuota"));

    let job = |status: Value| {
        let metadata = json!({"name": "text2sql-collect-1", "uid": "job", "creationTimestamp": CREATED});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"template": {}}, "status": status})).unwrap()
    };
    let failed = json!({
        "reason": "FailedCreate", "firstTimestamp": "2026-01-01T12:09:00Z",
        "message": "Error creating: pods \"text2sql-collect-1-0-abcde\" is forbidden: violates PodSecurity \"restricted:latest\": x",
    });
    let found = job_refusal(&job(json!({})), &events("job", &json!([failed])), now()).unwrap();
    assert_eq!(found.job.as_deref(), Some("text2sql-collect-1"));
    assert!(found.failure.message.starts_with("A Pod may not be created: is forbidden: violates PodSecurity"));
    let made = json!({"reason": "SuccessfulCreate", "firstTimestamp": "2026-01-01T12:09:30Z"});
    assert_eq!(job_refusal(&job(json!({})), &events("job", &json!([failed, made])), now()), None);
    assert_eq!(job_refusal(&job(json!({"active": 1})), &events("job", &json!([failed])), now()), None);
}

fn stuck(job: Option<&str>) -> PodFailure {
    let status = json!({"phase": "Pending", "containerStatuses": [{
        "name": "server", "image": "wrong:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
    }]});
    failures(&[pod("stuck", CREATED, &json!({"job": job, "status": status}))], &[], now()).remove(0)
}

#[test]
fn a_model_is_degraded_as_long_as_a_pod_fails_and_remembers_it_afterwards() {
    let resource = serde_json::from_value(fixture("model_minimal")).unwrap();
    let valid = model::validate(&resource, &images()).unwrap();
    let derive = |failures: Vec<PodFailure>, previous: &CllmModelStatus| {
        let observed = model::Observed { failures, ..model::Observed::default() };
        model::status(&valid, &model::decide(&valid, &[], &[]), &observed, previous, at(0))
    };
    let degraded = |status: &CllmModelStatus| {
        let found = status.conditions.iter().find(|condition| condition.type_ == "Degraded").unwrap();
        (found.status.clone(), found.reason.clone(), found.message.clone())
    };
    let failing = derive(vec![stuck(None), stuck(None)], &CllmModelStatus::default());
    let (status, reason, message) = degraded(&failing);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "ImagePullFailed"));
    assert!(
        message.starts_with("Pod stuck, container server: Image wrong:1 cannot be pulled: not found. "),
        "{message}"
    );
    assert!(message.ends_with("One more Pod has a failure."), "{message}");
    assert_eq!(failing.last_failure, Some(stuck(None).failure));

    let recovered = derive(Vec::new(), &failing);
    assert_eq!(degraded(&recovered).0, "False");
    assert_eq!(recovered.last_failure, failing.last_failure);
}

#[test]
fn a_training_that_is_held_up_says_so_and_fails_with_it_in_the_end() {
    let mut executor = Executor::new(training("training_minimal"));
    executor.reconcile();
    let job = executor.job_name(Collecting);
    executor.observed.failures = vec![stuck(Some(&job))];
    executor.reconcile();
    let (status, reason, message) = executor.condition("Degraded");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "ImagePullFailed"));
    let (_, running, held_up) = executor.condition("Ready");
    assert_eq!((running.as_str(), held_up), ("Running", format!("Collecting is held up: {message}")));

    // The Job deletes its Pods when its time is over.
    executor.fail(Collecting, "DeadlineExceeded", vec![]);
    executor.observed.failures.clear();
    executor.reconcile();
    let (_, reason, end) = executor.condition("Failed");
    assert_eq!(reason, "DeadlineExceeded");
    assert!(end.starts_with("Collecting failed: Job has reached the specified backoff limit. Pod stuck"), "{end}");
    assert_eq!(executor.condition("Degraded").0, "False");
}

#[test]
fn a_stage_that_failed_names_the_pod_and_a_failure_of_an_earlier_stage_is_history() {
    let mut executor = Executor::new(training("training_minimal"));
    executor.reconcile();
    let collecting = executor.job_name(Collecting);
    executor.observed.failures = vec![stuck(Some(&collecting))];
    executor.succeed(Collecting, vec![]);
    executor.reconcile();
    assert_eq!(executor.condition("Degraded").0, "False");

    let job = executor.job_name(Training);
    let failed = failures(&[pod("trainer-x", CREATED, &failed_trainer(&job, CREATED))], &[], now()).remove(0);
    executor.observed.failures.push(failed.clone());
    executor.fail(Training, "BackoffLimitExceeded", vec![]);
    executor.reconcile();
    let Failure { pod, message, .. } = failed.failure.clone();
    assert_eq!(executor.condition("Failed").2, format!("Training failed: {}", sentence(&failed.failure)));
    assert!(pod.as_deref() == Some("trainer-x") && message.contains("no space left"), "{message}");
}

#[test]
fn a_stage_that_never_had_enough_memory_fails_for_that_reason() {
    let mut executor = Executor::new(training("training_minimal"));
    executor.reconcile();
    executor.succeed(Collecting, vec![]);
    executor.reconcile();
    let job = executor.job_name(Training);
    let terminated = json!({"exitCode": 137, "reason": "OOMKilled", "finishedAt": CREATED});
    let case = json!({"job": job, "stage": "train", "status": {"phase": "Failed", "containerStatuses": [{
        "name": "trainer", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated},
    }]}});
    executor.observed.failures = failures(&[pod("trainer-x", CREATED, &case)], &[], now());
    executor.reconcile();
    assert_eq!(executor.condition("Degraded").1, "OutOfMemory");
    executor.fail(Training, "BackoffLimitExceeded", vec![]);
    executor.reconcile();
    let (_, reason, message) = executor.condition("Failed");
    assert_eq!(reason, "OutOfMemory");
    assert!(message.contains("Pod trainer-x") && message.contains("spec.training"), "{message}");
}
