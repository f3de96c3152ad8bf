//! What autoscalers are told: which Pods count, what they say together, and in which form.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

use cllm_operator::adapter::{
    API_SERVICE, Metric, Object, OwnerGone, Reading, ServiceAddress, Standing, Survey, Target, api_group, api_groups,
    api_resources, metric_value_list, parse_selector, read_page, register, standing, total,
};
use cllm_operator::model::MetricsApi;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::core::Selector;
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A replica that answers.
fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "server", "ports": [
            {"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 9090},
        ]}]},
        "status": {
            "phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut pod = pod("a");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

fn parsed(pod: Value) -> Pod {
    serde_json::from_value(pod).unwrap()
}

#[test]
fn a_pod_counts_only_while_it_is_ready_and_stays() {
    let target = |url: &str| Standing::Asked(Target { uid: "uid-a".into(), name: "a".into(), url: url.into() });
    for (pod, expected) in [
        (pod("a"), target("http://10.0.0.7:9090/metrics")),
        (changed("/status/podIP", json!("fd00::7")), target("http://[fd00::7]:9090/metrics")),
        (changed("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")), Standing::Ending),
        (changed("/status/phase", json!("Failed")), Standing::Ending),
        (changed("/status/phase", json!("Succeeded")), Standing::Ending),
        (changed("/status/phase", json!("Pending")), Standing::NotReady),
        (changed("/status/conditions", json!([{"type": "Ready", "status": "False"}])), Standing::NotReady),
        (changed("/status/conditions", json!([])), Standing::NotReady),
        (changed("/status/podIP", Value::Null), Standing::WithoutPage),
        (changed("/spec/containers", json!([{"name": "server"}])), Standing::WithoutPage),
    ] {
        assert_eq!(standing(&parsed(pod.clone())), expected, "{pod}");
    }
}

/// Of Pods a, b and c, all ready, with these pages; none: it does not answer.
fn survey(pages: [Option<&str>; 3]) -> Survey {
    let pods: Vec<_> = ["a", "b", "c"].map(|name| parsed(pod(name))).into();
    let (survey, targets) = Survey::begin(&pods);
    let answers = targets.into_iter().zip(pages).zip(0..);
    let answers = answers.map(|((target, page), second)| {
        (target, page.map(|page| Reading { at: at(second), figures: read_page(page) }))
    });
    survey.complete(answers.collect())
}

const PAGE: &str = "cllm_tokens_per_second{model_name=\"text2sql\"} 100\n\
                    cllm_utilization_percent{model_name=\"text2sql\"} 40\n\
                    cllm_queued_requests{model_name=\"text2sql\"} 2\n";
const BUSIER: &str = "cllm_tokens_per_second{model_name=\"text2sql\"} 300.5\n\
                      cllm_utilization_percent{model_name=\"text2sql\"} 80\n\
                      cllm_queued_requests{model_name=\"text2sql\"} 5\n";

#[test]
fn the_figure_of_a_model_is_that_of_the_pods_that_tell_theirs() {
    let everything = Selector::default();
    let older = PAGE.replace("cllm_utilization_percent", "other");
    for (pages, metric, expected) in [
        ([Some(PAGE), Some(BUSIER), None], Metric::TokensPerSecond, Some(400.5)),
        ([Some(PAGE), Some(BUSIER), None], Metric::UtilizationPercent, Some(60.0)),
        ([Some(PAGE), Some(BUSIER), None], Metric::QueuedRequests, Some(7.0)),
        ([Some(older.as_str()), Some(BUSIER), None], Metric::UtilizationPercent, Some(80.0)),
        ([Some(older.as_str()), None, None], Metric::UtilizationPercent, None),
        ([None, None, None], Metric::TokensPerSecond, None),
    ] {
        let survey = survey(pages);
        let figure = total(metric, &survey.counted(metric, &everything));
        assert_eq!(figure.map(|(value, _)| value), expected, "{pages:?} {metric:?}");
        // The oldest of those that count.
        assert!(figure.is_none_or(|(_, read)| read == at(i64::from(pages[0] == Some(older.as_str())))), "{figure:?}");
    }
}

#[test]
fn a_selector_over_the_labels_of_a_metric_leaves_the_others_out() {
    let survey = survey([Some(PAGE), Some("cllm_tokens_per_second{model_name=\"other\"} 7"), None]);
    for (selector, expected) in
        [("", vec!["a", "b"]), ("model_name=text2sql", vec!["a"]), ("model_name notin (text2sql, other)", vec![])]
    {
        let counted = survey.counted(Metric::TokensPerSecond, &parse_selector(selector).unwrap());
        let pods: Vec<_> = counted.iter().map(|counted| counted.pod).collect();
        assert_eq!(pods, expected, "{selector}");
    }
}

#[test]
fn that_nothing_counts_is_explained() {
    let mut pods: Vec<_> = ["a", "b"].map(|name| parsed(pod(name))).into();
    pods.push(parsed(changed("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))));
    pods.push(parsed(changed("/status/conditions", json!([]))));
    pods.push(parsed(changed("/spec/containers", json!([{"name": "server"}]))));
    let (survey, targets) = Survey::begin(&pods);
    let answers = targets.into_iter().zip([None, Some("cllm_ready 1")]);
    let answers =
        answers.map(|(target, page)| (target, page.map(|page| Reading { at: at(0), figures: read_page(page) })));
    let survey = survey.complete(answers.collect());
    assert!(survey.counted(Metric::UtilizationPercent, &Selector::default()).is_empty());
    assert_eq!(
        survey.absence(Metric::UtilizationPercent),
        "none of 5 Pods tells cllm_utilization_percent: 1 not ready, 1 about to end, 1 not answering on their metrics page, 1 without a \
         metrics page, 1 without that figure on their page"
    );
    let nobody = Survey::begin(&[]).0.absence(Metric::QueuedRequests);
    assert_eq!(nobody, "there is no Pod that could tell cllm_queued_requests");
}

#[test]
fn figures_are_told_as_the_clients_of_kubernetes_read_them() {
    let object = Object { api_version: "v1", kind: "Pod", namespace: "team".to_owned(), name: "a".to_owned() };
    let read = Timestamp::from_millisecond(1_800_000_000_999).unwrap();
    let figures = [(object.clone(), 12.5, read), (object.clone(), f64::NAN, read), (object, 7.0, read)];
    let list = metric_value_list(Metric::TokensPerSecond, &Selector::default(), figures.clone());
    let item = |value: &str| {
        json!({
            "describedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "team", "name": "a"},
            "metric": {"name": "cllm_tokens_per_second", "selector": null},
            "timestamp": "2027-01-15T08:00:00Z",
            "value": value,
        })
    };
    let expected = json!({
        "apiVersion": "custom.metrics.k8s.io/v1beta2", "kind": "MetricValueList", "metadata": {},
        "items": [item("12500m"), item("7")],
    });
    assert_eq!(list, expected);
    let selected = metric_value_list(Metric::TokensPerSecond, &parse_selector("model_name=a").unwrap(), figures);
    assert_eq!(selected["items"][0]["metric"]["selector"], json!({"matchLabels": {"model_name": "a"}}));
}

#[test]
fn discovery_names_the_group_its_version_and_every_metric() {
    let version = json!({"groupVersion": "custom.metrics.k8s.io/v1beta2", "version": "v1beta2"});
    let group = json!({"name": "custom.metrics.k8s.io", "preferredVersion": version, "versions": [version]});
    let has_all = |found: &Value, wanted: &Value| {
        wanted.as_object().unwrap().iter().all(|(key, value)| found.get(key) == Some(value))
    };
    let (found, list) = (json!(api_group()), json!(api_groups()));
    assert!(has_all(&found, &group) && found["kind"] == "APIGroup" && found["apiVersion"] == "v1", "{found}");
    assert!(list["kind"] == "APIGroupList" && has_all(&list["groups"][0], &group), "{list}");
    let resources = json!(api_resources());
    assert_eq!((&resources["kind"], &resources["groupVersion"]), (&json!("APIResourceList"), &version["groupVersion"]));
    let names: Vec<_> =
        resources["resources"].as_array().unwrap().iter().filter_map(|resource| resource["name"].as_str()).collect();
    let metrics = ["cllm_tokens_per_second", "cllm_utilization_percent", "cllm_queued_requests"];
    let expected = ["pods", "cllmmodels.cllm.dev"].map(|object| metrics.map(|metric| format!("{object}/{metric}")));
    assert_eq!(names, expected.concat());
    assert_eq!(
        resources["resources"][0],
        json!({
            "name": "pods/cllm_tokens_per_second", "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"],
        })
    );
}

fn address() -> ServiceAddress {
    ServiceAddress {
        namespace: "cllm".to_owned(),
        name: "cllm-operator".to_owned(),
        port: 8443,
        cluster_domain: "cluster.local".to_owned(),
    }
}

fn api_service(service: &Value) -> APIService {
    let value = json!({
        "metadata": {"name": API_SERVICE, "uid": "1"},
        "spec": {
            "group": "custom.metrics.k8s.io", "version": "v1beta2", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": service, "insecureSkipTLSVerify": true,
        },
    });
    serde_json::from_value(value).unwrap()
}

#[test]
fn one_adapter_is_registered_and_another_one_is_left_alone() {
    let owner = OwnerReference { name: "cllm-operator-metrics".to_owned(), ..OwnerReference::default() };
    let ours = json!({"namespace": "cllm", "name": "cllm-operator", "port": 8443});
    let theirs = json!({"namespace": "monitoring", "name": "prometheus-adapter"});
    let foreign = |owner: &str| MetricsApi::Foreign { owner: owner.to_owned() };
    for (live, bundle, has_owner, expected, declares) in [
        (None, "pem", true, MetricsApi::Served, true),
        (None, "", true, MetricsApi::Served, false),
        (None, "pem", false, MetricsApi::Served, false),
        (Some(api_service(&ours)), "pem", true, MetricsApi::Served, true),
        (Some(api_service(&ours)), "", true, MetricsApi::Served, false),
        (Some(api_service(&ours)), "pem", false, MetricsApi::Served, false),
        (Some(api_service(&theirs)), "pem", true, foreign("Service monitoring/prometheus-adapter"), false),
        (Some(api_service(&Value::Null)), "pem", true, foreign("the API server itself"), false),
    ] {
        let found = if has_owner { Ok(Some(owner.clone())) } else { Err(OwnerGone) };
        let registration = register(live.as_ref(), &address(), bundle.as_bytes(), found);
        assert_eq!(registration.metrics_api, expected, "{live:?} {bundle}");
        assert_eq!(registration.declared.is_some(), declares, "{live:?} {bundle} {has_owner}");
    }
    let live = api_service(&ours);
    let declared = register(Some(&live), &address(), b"pem", Ok(Some(owner))).declared.unwrap();
    let expected = json!({
        "group": "custom.metrics.k8s.io", "version": "v1beta2", "groupPriorityMinimum": 100, "versionPriority": 200,
        "service": {"namespace": "cllm", "name": "cllm-operator", "port": 8443},
        "caBundle": ByteString(b"pem".to_vec()), "insecureSkipTLSVerify": false,
    });
    assert_eq!(declared["spec"], expected);
    assert_eq!((&declared["metadata"]["uid"], &declared["metadata"]["name"]), (&json!("1"), &json!(API_SERVICE)));
    assert_eq!(declared["metadata"]["ownerReferences"][0]["name"], "cllm-operator-metrics");
}

#[test]
fn the_service_is_called_by_each_of_its_names() {
    let expected =
        ["cllm-operator", "cllm-operator.cllm", "cllm-operator.cllm.svc", "cllm-operator.cllm.svc.cluster.local"];
    assert_eq!(address().host_names(), expected);
}
