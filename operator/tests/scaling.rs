//! The autoscaler: what it is asked to look at, from where it counts, and what the model says of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

mod common;

use cllm_crds::status_page::ServerStatus;
use cllm_crds::{CllmModel, CllmModelStatus};
use cllm_operator::events::of_model;
use cllm_operator::model::{self, MetricsApi, Observed, Replica, Resolution, ValidModel};
use common::{answering, at, fixture, images, with};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

fn valid(resource: Value) -> ValidModel {
    model::validate(&serde_json::from_value(resource).unwrap(), &images()).unwrap()
}

fn objects(resource: Value) -> Vec<Value> {
    let valid = valid(resource);
    let Resolution::Resolved(checkpoint) = model::resolve(&valid, &[]) else { return Vec::new() };
    model::render(&valid, &checkpoint).objects()
}

fn object(resource: Value, kind: &str) -> Value {
    objects(resource).into_iter().find(|object| object["kind"] == kind).unwrap()
}

#[test]
fn the_autoscaler_gets_the_signals_that_the_spec_has_targets_for() {
    let signals = |targets: Value| -> Vec<String> {
        let mut autoscaling = json!({"maxReplicas": 8});
        autoscaling.as_object_mut().unwrap().extend(targets.as_object().unwrap().clone());
        let found = object(with(fixture("model_minimal"), "/spec/autoscaling", autoscaling), "HorizontalPodAutoscaler");
        let signal = |metric: &Value| {
            let (pods, target) = (&metric["pods"], &metric["pods"]["target"]);
            assert_eq!((&metric["type"], &target["type"]), (&json!("Pods"), &json!("AverageValue")));
            format!("{} {}", pods["metric"]["name"].as_str().unwrap(), target["averageValue"].as_str().unwrap())
        };
        found["spec"]["metrics"].as_array().unwrap().iter().map(signal).collect()
    };
    assert_eq!(signals(json!({"targetUtilization": 70})), ["cllm_utilization_percent 70"]);
    assert_eq!(signals(json!({"targetQueuedRequests": 4})), ["cllm_queued_requests 4"]);
    assert_eq!(
        signals(json!({"targetTokensPerSecond": 400, "targetUtilization": 70, "targetQueuedRequests": 4})),
        ["cllm_tokens_per_second 400", "cllm_utilization_percent 70", "cllm_queued_requests 4"]
    );
}

#[test]
fn the_deployment_has_as_many_replicas_as_the_autoscaler_may_ask_for() {
    let replicas = |asked: u32| {
        let resource = with(fixture("model_autoscaled"), "/spec/replicas", json!(asked));
        object(resource, "Deployment")["spec"]["replicas"].as_i64().unwrap()
    };
    assert_eq!([0, 1, 2, 5, 8, 99].map(replicas), [0, 2, 2, 5, 8, 8]);
}

#[test]
fn before_a_replica_ever_answered_none_is_taken_away() {
    let scale_down = |behavior: Value, status: Value| {
        let resource = with(fixture("model_autoscaled"), "/spec/autoscaling/behavior", behavior);
        let resource = with(resource, "/status", status);
        object(resource, "HorizontalPodAutoscaler").pointer("/spec/behavior/scaleDown").cloned()
    };
    let asked = || json!({"scaleDown": {"selectPolicy": "Min", "stabilizationWindowSeconds": 60}});
    let answers = || json!({"readyReplicas": 1});
    assert_eq!(scale_down(Value::Null, Value::Null), Some(json!({"selectPolicy": "Disabled"})));
    assert_eq!(scale_down(Value::Null, answers()), None);
    let held = json!({"selectPolicy": "Disabled", "stabilizationWindowSeconds": 60});
    assert_eq!(scale_down(asked(), json!({"readyReplicas": 0})), Some(held));
    assert_eq!(scale_down(asked(), answers()), Some(asked()["scaleDown"].clone()));
    for answered in [
        json!({"lastDowntime": {"startedAt": "2026-01-01T00:00:00Z", "reason": "ReplicasLost"}}),
        json!({"model": {"uri": "pvc://models/a", "image": "a", "specHash": "b", "lastGood": {"uri": "pvc://models/a"}}}),
    ] {
        assert_eq!(scale_down(Value::Null, answered.clone()), None, "{answered}");
    }
}

/// As the API server tells who wrote the number of replicas.
fn written(manager: &str, subresource: Option<&str>) -> Value {
    json!([{
        "manager": manager, "operation": "Update", "subresource": subresource,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }])
}

fn autoscaler(status: &Value) -> HorizontalPodAutoscaler {
    serde_json::from_value(json!({
        "metadata": {}, "spec": {"maxReplicas": 8, "scaleTargetRef": {"kind": "CllmModel", "name": "text2sql"}}, "status": status,
    }))
    .unwrap()
}

/// The number of a spec and who wrote it there, what the autoscaler wants, and what the Deployment has and who wrote that there.
struct Numbers {
    spec: (u32, Value),
    wanted: i64,
    running: Option<(u32, &'static str)>,
}

/// What the Deployment gets, and what is written to the spec.
fn numbers(Numbers { spec: (count, managers), wanted, running }: Numbers) -> (u32, Option<u32>) {
    let resource = with(fixture("model_autoscaled"), "/spec/replicas", json!(count));
    let resource: CllmModel = serde_json::from_value(with(resource, "/metadata/managedFields", managers)).unwrap();
    let deployment = running.map(|(replicas, manager)| {
        let metadata = json!({"managedFields": written(manager, None)});
        let spec = json!({"replicas": replicas, "selector": {}, "template": {}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    });
    let valid = model::validate(&resource, &images()).unwrap();
    let valid = valid.holding(&resource, Some(&autoscaler(&json!({"desiredReplicas": wanted}))), deployment.as_ref());
    (valid.replicas(), valid.handed_over_replicas())
}

#[test]
fn replicas_that_the_autoscaler_did_not_write_stay_and_are_handed_over_to_it() {
    let (scale, kubectl) = (|| written("autoscaler", Some("scale")), || written("kubectl", None));
    let ours = |replicas: u32| Some((replicas, "cllm-operator"));
    for (spec, wanted, running, expected, why) in [
        ((6, scale()), 6, ours(6), (6, None), "at rest"),
        ((7, scale()), 6, ours(6), (7, None), "it has written, and tells so a moment later"),
        ((1, kubectl()), 6, ours(6), (6, Some(6)), "somebody left it out, which makes it 1"),
        ((1, kubectl()), 1, ours(6), (6, Some(6)), "it has counted from there already"),
        ((1, kubectl()), 0, ours(5), (5, Some(5)), "the autoscaler was turned on and has not looked yet"),
        ((5, kubectl()), 0, ours(5), (5, None), "it was turned on, and the spec still says what runs"),
        ((1, kubectl()), 0, ours(99), (8, Some(8)), "it was turned on, within its bounds"),
        ((1, kubectl()), 0, ours(1), (2, Some(2)), "it was turned on, within its bounds"),
        ((3, scale()), 0, ours(3), (3, None), "it was turned off, and on again"),
        ((1, kubectl()), 0, None, (2, None), "a new model"),
        ((1, kubectl()), 3, None, (3, Some(3)), "the Deployment was deleted"),
        ((1, kubectl()), 0, Some((7, "kubectl")), (2, None), "somebody edited the Deployment"),
        ((1, kubectl()), 0, ours(0), (2, None), "it was at zero"),
        ((0, kubectl()), 6, ours(6), (0, None), "0 switches it off"),
    ] {
        assert_eq!(numbers(Numbers { spec, wanted, running }), expected, "{why}");
    }
    let paused = with(fixture("model_autoscaled"), "/spec/paused", json!(true));
    let resource: CllmModel = serde_json::from_value(paused).unwrap();
    let held = valid(json!(resource)).holding(&resource, Some(&autoscaler(&json!({"desiredReplicas": 6}))), None);
    assert_eq!(held.handed_over_replicas(), None);
}

fn page(capacity: Option<f64>) -> ServerStatus {
    ServerStatus { capacity_tokens_per_second: capacity, ..answering("sha256:abc") }
}

fn ready(count: i32) -> Observed {
    let status = json!({"observedGeneration": 1, "replicas": count, "updatedReplicas": count, "readyReplicas": count});
    let deployment = json!({"metadata": {"generation": 1}, "spec": {"selector": {}, "template": {}}, "status": status});
    Observed { deployment: Some(serde_json::from_value(deployment).unwrap()), ..Observed::default() }
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message})
}

fn active() -> Value {
    condition("ScalingActive", "True", "ValidMetricFound", "the HPA was able to compute the replica count")
}

/// The status, from an autoscaler that says so.
fn derive(resource: Value, observed: Observed, conditions: &Value, previous: &CllmModelStatus) -> CllmModelStatus {
    let observed =
        Observed { autoscaler: Some(autoscaler(&json!({"desiredReplicas": 3, "conditions": conditions}))), ..observed };
    let valid = valid(resource);
    model::status(&valid, &model::decide(&valid, &[], &[]), &observed, previous, at(0))
}

/// `status/reason` and the message.
fn scaling(status: &CllmModelStatus) -> (String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == "ScalingActive");
    found.map(|found| (format!("{}/{}", found.status, found.reason), found.message.clone())).unwrap_or_default()
}

#[test]
fn the_condition_says_in_words_what_the_autoscaler_does() {
    let limited = |reason: &str| json!([active(), condition("ScalingLimited", "True", reason, "")]);
    let no_metrics = || json!([condition("ScalingActive", "False", "FailedGetPodsMetric", "no metrics returned")]);
    let stabilized = json!([active(), condition("AbleToScale", "True", "ScaleDownStabilized", "")]);
    let unable = json!([condition("AbleToScale", "False", "FailedGetScale", "the scale is gone")]);
    for (conditions, expected, words) in [
        (json!([active()]), "True/MetricsAvailable", "reads its metrics and wants 3 replicas, of 2 to 8."),
        (limited("TooManyReplicas"), "True/MetricsAvailable", "maxReplicas allows no more"),
        (limited("TooFewReplicas"), "True/MetricsAvailable", "minReplicas allows no fewer"),
        (limited("ScaleUpLimit"), "True/MetricsAvailable", "step by step"),
        (stabilized, "True/MetricsAvailable", "waits before it takes any away"),
        (no_metrics(), "False/MetricsUnavailable", "cannot read its metrics. It says: no metrics returned"),
        (unable, "False/NotAbleToScale", "the scale is gone"),
        (json!([]), "Unknown/Progressing", "has not looked"),
    ] {
        let found = scaling(&derive(fixture("model_autoscaled"), ready(2), &conditions, &CllmModelStatus::default()));
        assert!(found.0 == expected && found.1.contains(words), "{found:?}");
    }
    let starting = derive(fixture("model_autoscaled"), ready(0), &no_metrics(), &CllmModelStatus::default());
    let (word, message) = scaling(&starting);
    assert!(word == "False/MetricsUnavailable" && message.contains("No replica answers"), "{word} {message}");
    let off = with(fixture("model_autoscaled"), "/spec/replicas", json!(0));
    let (word, message) = scaling(&derive(off, ready(0), &json!([]), &CllmModelStatus::default()));
    assert!(word == "False/ScaledToZero" && message.contains("switches the autoscaler off"), "{word} {message}");
    let without = derive(fixture("model_minimal"), ready(1), &json!([active()]), &starting);
    assert_eq!(scaling(&without).0, "");
}

#[test]
fn who_does_not_serve_the_metrics_is_named_where_they_are_missing_and_only_there() {
    let foreign = || MetricsApi::Foreign { owner: "Service monitoring/prometheus-adapter".to_owned() };
    let inactive = || condition("ScalingActive", "False", "FailedGetPodsMetric", "no metrics returned");
    for (metrics_api, own, expected, words) in [
        (MetricsApi::Disabled, inactive(), "False/AdapterDisabled", "turn its adapter on"),
        (foreign(), inactive(), "False/ForeignAdapter", "belongs to Service monitoring/prometheus-adapter"),
        (MetricsApi::Disabled, active(), "True/MetricsAvailable", "reads its metrics"),
        (foreign(), active(), "True/MetricsAvailable", "reads its metrics"),
    ] {
        let observed = Observed { metrics_api, ..ready(2) };
        let status = derive(fixture("model_autoscaled"), observed, &json!([own]), &CllmModelStatus::default());
        let (word, message) = scaling(&status);
        assert!(word == expected && message.contains(words), "{word} {message}");
        let warns = of_model(&CllmModelStatus::default(), &status).iter().any(|notice| notice.is_warning);
        assert_eq!(warns, word.starts_with("False"), "{word}");
    }
}

#[test]
fn a_target_above_the_capacity_is_a_warning_with_the_figure() {
    let look = |capacities: &[Option<f64>], previous: &CllmModelStatus| {
        let replicas = capacities.iter().map(|capacity| Replica { page: Some(page(*capacity)), ..Replica::default() });
        let observed = Observed { replicas: replicas.collect(), ..ready(2) };
        derive(fixture("model_autoscaled"), observed, &json!([active()]), previous)
    };
    let none = CllmModelStatus::default();
    // the target is 400 tokens per second
    for (capacities, is_told) in [
        (&[None][..], false),
        (&[Some(1000.0)][..], false),
        (&[Some(425.0)][..], false),
        (&[Some(300.0), Some(600.0)][..], false),
        (&[Some(300.0), Some(480.0)][..], true),
        (&[Some(312.0), None][..], true),
    ] {
        let found = scaling(&look(capacities, &none)).0;
        let expected = if is_told { "True/TargetAboveCapacity" } else { "True/MetricsAvailable" };
        assert_eq!(found, expected, "{capacities:?}");
    }
    let told = look(&[Some(312.0)], &none);
    let message = scaling(&told).1;
    assert!(message.contains("is 400, but a replica can deliver about 310 tokens per second"), "{message}");
    assert!(message.contains("ask for at most 279") && message.contains("wants 3 replicas"), "{message}");
    let notices = of_model(&none, &told);
    let warning = notices.iter().find(|notice| notice.reason == "TargetAboveCapacity").unwrap();
    assert!(warning.is_warning && warning.note.contains("310"), "{warning:?}");

    // what is measured varies: it is neither told again nor taken back at once
    let still = look(&[Some(430.0)], &told);
    assert_eq!(scaling(&still).0, "True/TargetAboveCapacity");
    assert!(of_model(&told, &still).iter().all(|notice| notice.reason != "TargetAboveCapacity"));
    assert_eq!(scaling(&look(&[Some(445.0)], &still)).0, "True/MetricsAvailable");

    // without metrics it is not the first thing to look at
    let inactive = json!([condition("ScalingActive", "False", "FailedGetPodsMetric", "no metrics returned")]);
    let observed =
        Observed { replicas: vec![Replica { page: Some(page(Some(100.0))), ..Replica::default() }], ..ready(1) };
    let (word, message) = scaling(&derive(fixture("model_autoscaled"), observed, &inactive, &none));
    assert!(word == "False/MetricsUnavailable" && message.contains("ask for at most 90"), "{word} {message}");
}
