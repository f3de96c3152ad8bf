//! What becomes of Pods that ask for a sidecar: golden files of what is added, laws that no golden file can state, and what is told where
//! nothing is added.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

mod common;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cllm_crds::CllmModel;
use cllm_operator::injection::{Answer, Outcome, Refusal, Request, answer, inject, missed};
use cllm_operator::model::{self, ResolvedModel, ValidModel};
use common::{fixture, images, with};
use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// As a controller makes it of a template.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "app-", "labels": {"app": "shop", "cllm.dev/inject": "text2sql"}},
        "spec": {"containers": [{"name": "app", "image": "shop:1"}]},
    })
}

/// One that has something of everything.
fn large_pod() -> Value {
    let token = json!({"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "app", "labels": {"cllm.dev/inject": "text2sql"},
            "annotations": {"cllm.dev/port": "8100", "cllm.dev/injection-refused": "earlier", "note": "theirs"},
        },
        "spec": {
            "initContainers": [{"name": "migrate", "image": "shop:1"}, {"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"}],
            "containers": [
                {"name": "app", "image": "shop:1", "env": [{"name": "OPENAI_API_KEY", "value": "theirs"}], "volumeMounts": [token]},
                {"name": "other", "image": "shop:1", "env": [{"name": "OPENAI_BASE_URL", "value": "https://api.example/v1"}]},
                {"name": "third", "image": "shop:1", "ports": [{"containerPort": 8000}, {"containerPort": 8100, "protocol": "UDP"}]},
            ],
            "securityContext": {"runAsUser": 0, "fsGroup": 100},
            "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "kube-api-access", "projected": {"sources": []}}],
            "imagePullSecrets": [{"name": "theirs"}, {"name": "registry"}],
            "tolerations": [{"key": "theirs", "operator": "Exists"}],
        },
    })
}

fn valid(resource: Value) -> ValidModel {
    model::validate(&serde_json::from_value(resource).unwrap(), &images()).unwrap()
}

fn checkpoint(model: &ValidModel) -> ResolvedModel {
    let of_training = || ResolvedModel::new("pvc://models/text2sql/abc", Some("sha256:abc".to_owned())).unwrap();
    model::serving(model).unwrap_or_else(of_training)
}

fn injected(pod: &Value, name: &str) -> Result<Value, Refusal> {
    let model = valid(fixture(name));
    inject(pod, &model, &checkpoint(&model)).map(|patch| patched(pod, &patch))
}

fn patched(pod: &Value, patch: &Patch) -> Value {
    let mut changed = pod.clone();
    json_patch::patch(&mut changed, patch).unwrap();
    changed
}

fn sidecar(pod: &Value) -> &Value {
    pod["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|container| container["name"] == "cllm-server")
        .unwrap()
}

#[test]
fn pods() {
    for (name, pod, model) in [
        ("pod_minimal", pod(), "model_minimal"),
        ("pod_large", large_pod(), "model_full"),
        ("pod_downloads", pod(), "model_downloaded"),
        ("pod_cuda", pod(), "model_cuda"),
        ("pod_gated", pod(), "model_gated"),
    ] {
        insta::assert_snapshot!(name, serde_saphyr::to_string(&injected(&pod, model).unwrap()).unwrap());
    }
}

#[test]
fn the_sidecar_is_the_container_of_a_replica_but_for_where_it_listens_and_where_it_is() {
    for name in ["model_minimal", "model_full", "model_downloaded", "model_cuda", "model_gated"] {
        let model = valid(fixture(name));
        let objects = model::render(&model, &checkpoint(&model)).objects();
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let replica = &deployment["spec"]["template"]["spec"]["containers"][0];
        let pod = injected(&pod(), name).unwrap();
        let fields = |container: &Value| container.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut differing: Vec<_> = fields(replica).into_iter().chain(fields(sidecar(&pod))).collect();
        differing.retain(|field| replica.get(field) != sidecar(&pod).get(field));
        differing.sort_unstable();
        differing.dedup();
        let expected = [
            "args",
            "lifecycle",
            "livenessProbe",
            "name",
            "ports",
            "readinessProbe",
            "restartPolicy",
            "securityContext",
            "startupProbe",
            "volumeMounts",
        ];
        assert_eq!(differing, expected, "{name}");
        let arguments =
            |container: &Value| -> Vec<String> { serde_json::from_value(container["args"].clone()).unwrap() };
        let (of_replica, of_sidecar) = (arguments(replica), arguments(sidecar(&pod)));
        let new: Vec<_> = of_sidecar.iter().filter(|argument| !of_replica.contains(argument)).collect();
        assert_eq!(new, ["--host=127.0.0.1", "--metrics-host=0.0.0.0"], "{name}");
        let gone: Vec<_> = of_replica.iter().filter(|argument| !of_sidecar.contains(argument)).collect();
        assert_eq!(gone, ["--host=0.0.0.0"], "{name}");
    }
}

#[test]
fn a_sidecar_that_downloads_shares_a_cache_only_if_several_nodes_may() {
    let cache = |cache: Value| {
        let model = valid(with(fixture("model_downloaded"), "/spec/cache", cache));
        let patch = inject(&pod(), &model, &checkpoint(&model)).unwrap();
        let pod = patched(&pod(), &patch);
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let cache = volumes.iter().find(|volume| volume["name"] == "cllm-cache").unwrap();
        cache["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned)
    };
    assert_eq!(cache(json!({"size": "1Gi", "accessModes": ["ReadWriteMany"]})).unwrap(), "text2sql-model-cache");
    for own in [Value::Null, json!({"size": "1Gi"}), json!({"claimName": "models"})] {
        assert_eq!(cache(own.clone()), None, "{own}");
    }
}

#[test]
fn what_stands_in_the_way_is_refused_in_words() {
    let own = |field: &str, value: Value| with(pod(), field, value);
    let container = |change: Value| {
        let mut pod = pod();
        pod["spec"]["containers"][0].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        pod
    };
    let annotated = |port: &str| own("/metadata/annotations", json!({"cllm.dev/port": port}));
    for (pod, words) in [
        (annotated("80"), "`80`: write a port from 1024 to 65535 other than 9090"),
        (annotated("9090"), "`9090`"),
        (annotated("65536"), "`65536`"),
        (annotated("http"), "`http`"),
        (container(json!({"ports": [{"containerPort": 8000}]})), "container app has port 8000"),
        (container(json!({"ports": [{"containerPort": 9090, "protocol": "TCP"}]})), "container app has port 9090"),
        (container(json!({"name": "cllm-server"})), "container cllm-server of its own"),
        (own("/spec/initContainers", json!([{"name": "cllm-server"}])), "container cllm-server of its own"),
        (own("/spec/volumes", json!([{"name": "cllm-tmp", "emptyDir": {}}])), "volume cllm-tmp of its own"),
        (own("/spec/hostNetwork", json!(true)), "hostNetwork"),
        (own("/spec/containers", json!([])), "no Pod with containers"),
        (own("/spec/containers", json!("none")), "no Pod with containers"),
        (own("/spec/containers", json!(["none"])), "no Pod with containers"),
        (own("/spec/volumes", json!("none")), "no Pod with containers"),
        (own("/metadata/annotations", json!("none")), "no Pod with containers"),
        (json!({"spec": {"containers": [{"name": "app"}]}}), "no Pod with containers"),
        (json!(["none"]), "no Pod with containers"),
        (Value::Null, "no Pod with containers"),
    ] {
        // With a digest, so that there is something to write into the annotations.
        let refusal = injected(&pod, "model_full").unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal}, not {words}: {pod}");
    }
}

/// Whether everything that stands in the first stands in the second, lists at their beginning.
fn keeps(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(key, value)| after.get(key).is_some_and(|after| keeps(value, after)))
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() <= after.len() && before.iter().zip(after).all(|(before, after)| keeps(before, after))
        }
        _ => before == after,
    }
}

/// Any JSON that a later version of Kubernetes may bring.
fn unknown() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z/~]{1,6}", inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
}

/// Pods with fields and variables of their own.
fn any_pod() -> impl Strategy<Value = Value> {
    let variable = prop_oneof![Just("OPENAI_BASE_URL"), Just("OPENAI_API_KEY"), Just("OTHER")];
    let environment = prop::collection::vec(variable, 0..3);
    (any::<bool>(), environment, unknown(), unknown(), unknown()).prop_map(|(is_large, names, first, second, third)| {
        let mut pod = if is_large { large_pod() } else { pod() };
        pod["metadata"]["later/field"] = first;
        pod["spec"]["later~field"] = second;
        pod["spec"]["containers"][0]["laterField"] = third;
        let variables: Vec<_> = names.iter().map(|name| json!({"name": name, "value": "theirs"})).collect();
        if !variables.is_empty() {
            pod["spec"]["containers"][0]["env"] = json!(variables);
        }
        pod
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_of_a_pod_is_lost_and_twice_is_once(before in any_pod()) {
        let after = injected(&before, "model_downloaded").unwrap();
        let mut kept = before.clone();
        // It was refused once, and is no more.
        if let Some(annotations) = kept.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove("cllm.dev/injection-refused");
        }
        prop_assert!(keeps(&kept, &after), "{before:#} became {after:#}");
        prop_assert!(after["metadata"]["annotations"].get("cllm.dev/injection-refused").is_none());
        let model = valid(fixture("model_full"));
        prop_assert_eq!(inject(&after, &model, &checkpoint(&model)).unwrap(), Patch::default());
        for container in after["spec"]["containers"].as_array().unwrap() {
            let of = |name: &str| {
                let variables = container["env"].as_array().unwrap().iter();
                variables.filter(|variable| variable["name"] == name).count()
            };
            prop_assert!(of("OPENAI_BASE_URL") >= 1, "{container}");
        }
    }
}

/// A review of a Pod in namespace `team`, answered with this model there.
fn answered(object: &Value, change: &Value, model: Option<Value>) -> (Value, Option<(String, String)>) {
    let mut request = json!({"uid": "1", "namespace": "team", "operation": "CREATE", "object": object});
    request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let request: Request = serde_json::from_value(request).unwrap();
    let mut asked = None;
    let Answer { review, outcome } = answer(&request, &images(), |namespace, name| {
        asked = Some((namespace.to_owned(), name.to_owned()));
        let missing = Refusal::NoModel { namespace: namespace.to_owned(), name: name.to_owned() };
        let model: CllmModel = serde_json::from_value(model.ok_or(missing)?).unwrap();
        Ok(Arc::new(model))
    });
    assert_eq!((&review["apiVersion"], &review["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    let response = &review["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("1"), &json!(true)));
    let expected = match (response.get("patch"), response.get("warnings")) {
        (None, None) => Outcome::Untouched,
        (Some(_), None) => Outcome::Injected,
        (_, Some(_)) => Outcome::Refused,
    };
    assert_eq!(outcome, expected, "{response}");
    (response.clone(), asked)
}

/// The Pod as the API server makes it.
fn after(object: &Value, response: &Value) -> Value {
    let Some(patch) = response["patch"].as_str() else { return object.clone() };
    assert_eq!(response["patchType"], "JSONPatch");
    patched(object, &serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap())
}

#[test]
fn the_model_is_looked_for_in_the_namespace_of_the_request_alone() {
    let elsewhere = with(pod(), "/metadata/namespace", json!("other"));
    let (response, asked) = answered(&elsewhere, &json!({}), Some(fixture("model_minimal")));
    assert_eq!(asked, Some(("team".to_owned(), "text2sql".to_owned())));
    assert_eq!(sidecar(&after(&elsewhere, &response))["image"], "registry.example/cllm-server:test");
    let (dry, _) = answered(&elsewhere, &json!({"dryRun": true}), Some(fixture("model_minimal")));
    assert_eq!(dry, response);
}

#[test]
fn whoever_asks_for_nothing_or_has_it_gets_nothing_and_nothing_is_looked_up() {
    let has_it = injected(&pod(), "model_minimal").unwrap();
    for (object, change) in [
        (with(pod(), "/metadata/labels", json!({"app": "shop"})), json!({})),
        (with(pod(), "/metadata/labels", Value::Null), json!({})),
        (has_it, json!({})),
        (pod(), json!({"operation": "UPDATE"})),
        (pod(), json!({"operation": "DELETE", "object": null})),
    ] {
        let (response, asked) = answered(&object, &change, None);
        assert_eq!(response, json!({"uid": "1", "allowed": true}), "{object} {change}");
        assert_eq!(asked, None);
    }
}

#[test]
fn a_refusal_stands_in_a_warning_and_on_the_pod_and_twice_is_once() {
    let served = |pointer: &str, value: Value| Some(with(fixture("model_minimal"), pointer, value));
    let label = |value: &str| with(pod(), "/metadata/labels", json!({"cllm.dev/inject": value}));
    let ready = json!({
        "type": "Ready", "status": "False", "reason": "TrainingNotComplete", "message": "It trains.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let waiting = json!({"conditions": [ready]});
    for (object, model, words) in [
        (pod(), None, "namespace team has no CllmModel text2sql: create it, or correct the label cllm.dev/inject"),
        (label(""), None, "the label cllm.dev/inject is empty"),
        (pod(), served("/spec/model/uri", json!("nowhere")), "CllmModel text2sql is refused: spec.model.uri"),
        (pod(), Some(fixture("model_full")), "no checkpoint to serve yet: the operator has not looked at it yet"),
        (pod(), Some(with(fixture("model_full"), "/status", waiting)), "no checkpoint to serve yet: It trains."),
        (with(pod(), "/spec/hostNetwork", json!(true)), Some(fixture("model_minimal")), "leave hostNetwork out"),
    ] {
        let (response, _) = answered(&object, &json!({}), model.clone());
        let refused = after(&object, &response);
        let sentence = refused["metadata"]["annotations"]["cllm.dev/injection-refused"].as_str().unwrap();
        assert!(sentence.contains(words), "{sentence}");
        assert_eq!(response["warnings"], json!([format!("no sidecar: {sentence}")]));
        assert_eq!(refused["spec"], object["spec"]);
        assert!(answered(&refused, &json!({}), model).0.get("patch").is_none(), "changed twice");
    }
    let (response, _) = answered(&json!({"metadata": {"labels": {"cllm.dev/inject": "a"}}}), &json!({}), None);
    assert_eq!(response["allowed"], true);
}

#[test]
fn what_is_served_now_is_pinned() {
    let told = |model: Value| {
        let (response, _) = answered(&pod(), &json!({}), Some(model));
        let pod = after(&pod(), &response);
        let arguments: Vec<String> = serde_json::from_value(sidecar(&pod)["args"].clone()).unwrap();
        let value = |name: &str| {
            let found = arguments.iter().find_map(|argument| argument.strip_prefix(name));
            found.map(str::to_owned).unwrap_or_default()
        };
        let annotation =
            pod["metadata"]["annotations"]["cllm.dev/model-digest"].as_str().unwrap_or_default().to_owned();
        assert_eq!(annotation, value("--digest="));
        (value("--model="), value("--digest="), sidecar(&pod)["image"].as_str().unwrap().to_owned())
    };
    let status = |uri: &str, hash: &str| json!({"model": {"uri": uri, "digest": DIGEST, "image": "pinned:1", "specHash": hash}, "conditions": []});
    // Nobody has looked at the model yet.
    let minimal = || fixture("model_minimal");
    let (path, image) = ("/claims/models/text2sql/abc", "registry.example/cllm-server:test");
    assert_eq!(told(minimal()), (path.to_owned(), String::new(), image.to_owned()));
    // The replicas told their digest; the image is that of this spec alone.
    let loaded = with(minimal(), "/status", status("pvc://models/text2sql/abc", "other"));
    assert_eq!(told(loaded), (path.to_owned(), DIGEST.to_owned(), image.to_owned()));
    // They serve something else still, and its digest is not this one's.
    let changed = with(minimal(), "/status", status("pvc://models/text2sql/before", "other"));
    assert_eq!(told(changed), (path.to_owned(), String::new(), image.to_owned()));
    // What a training gave.
    let followed = with(fixture("model_full"), "/status", status("pvc://models/text2sql/abc", "other"));
    assert_eq!(told(followed), (path.to_owned(), DIGEST.to_owned(), "registry.example/team/server:7".to_owned()));
}

#[test]
fn what_runs_without_its_sidecar_is_told_with_what_to_do() {
    let told = |pod: Value| {
        let pod: Pod = serde_json::from_value(with(
            with(pod, "/metadata/name", json!("app-1")),
            "/metadata/namespace",
            json!("team"),
        ))
        .unwrap();
        missed(&pod).map(|missed| (missed.of_pod().note, missed.of_model().note))
    };
    let (of_pod, of_model) = told(pod()).unwrap();
    for note in [&of_pod, &of_model] {
        assert!(note.contains("kubectl label namespace team cllm.dev/injection=enabled"), "{note}");
        assert!(note.contains("Then delete the"), "{note}");
        assert!(note.len() <= 1024, "{note}");
    }
    assert!(of_model.contains("app-1") && of_model.contains("cllm.dev/inject=text2sql"), "{of_model}");
    let refused = json!({"cllm.dev/injection-refused": "container app has port 8000"});
    let (of_pod, _) = told(with(pod(), "/metadata/annotations", refused)).unwrap();
    assert!(of_pod.contains(": container app has port 8000. Then delete"), "{of_pod}");
    let failed = with(pod(), "/status", json!({"phase": "Failed"}));
    assert!(told(failed).is_some(), "the sidecar may be what it lacked");
    for fine in [
        injected(&pod(), "model_minimal").unwrap(),
        with(pod(), "/metadata/labels", Value::Null),
        with(pod(), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        with(pod(), "/status", json!({"phase": "Succeeded"})),
    ] {
        assert_eq!(told(fine.clone()), None, "{fine}");
    }
}
