//! A model that became another one has the children of that other one made anew: nothing of what it was is left.

use anyhow::ensure;
use cllm_crds::CllmModel;
use cllm_tests::{TestNamespace, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::support::{Operator, SOON, cluster, create};

const PAIRS: u32 = 48;
/// The bit of the feature of that name.
const AUTOSCALING: u32 = 1 << 4;

/// What a spec may have or lack; each is one bit of a number.
fn features() -> Vec<Value> {
    vec![
        json!({"replicas": 3}),
        json!({"device": "cuda", "runtimeClassName": "nvidia"}),
        json!({"decoding": {"strategy": "Autoregressive", "maxBlockSize": 8, "adaptive": false}}),
        json!({"server": {"contextLength": 512, "maxConcurrentRequests": 2, "maxTokensPerSecond": 500, "drainSeconds": 5}}),
        json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetTokensPerSecond": 100, "targetUtilization": 70}}),
        json!({"rollout": {"strategy": "InPlace"}}),
        json!({"service": {"port": 8080, "annotations": {"example.com/a": "b"}}}),
        json!({"networkPolicy": {"ingressFrom": [{"podSelector": {"matchLabels": {"app": "shop"}}}]}}),
        json!({"podDisruptionBudget": {"maxUnavailable": 2}}),
        json!({"resources": {"requests": {"cpu": "1500m"}, "limits": {"memory": "2Gi"}}}),
        json!({"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "serving", "operator": "Exists"}]}),
        json!({"podLabels": {"team": "shop"}, "podAnnotations": {"example.com/c": "d"}, "imagePullSecrets": [{"name": "registry"}]}),
        json!({"image": "registry.example/other:2", "imagePullPolicy": "Always", "priorityClassName": "system-cluster-critical"}),
        json!({"model": {"uri": "pvc://other/place", "servedName": "other"}}),
        json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}}]}}}),
        json!({"schedulerName": "second", "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"a": "b"}}}]}),
        json!({"podSecurityContext": {"supplementalGroups": [100]}}),
        json!({"env": [{"name": "RUST_LOG", "value": "debug"}], "extraArgs": ["--adaptive=false"]}),
    ]
}

fn model(name: &str, bits: u32) -> anyhow::Result<CllmModel> {
    let mut spec = json!({"model": {"uri": "pvc://models/text2sql"}});
    let chosen = features().into_iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0);
    for (_, feature) in chosen {
        if let (Value::Object(spec), Value::Object(feature)) = (&mut spec, feature) {
            spec.extend(feature);
        }
    }
    let value =
        json!({"apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": name}, "spec": spec});
    Ok(serde_json::from_value(value)?)
}

/// Numbers without a visible pattern, the same in each run; the first pairs go from everything to nothing and back.
fn pairs() -> Vec<(u32, u32)> {
    let all = (1 << features().len()) - 1;
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state & all
    };
    let random = (2..PAIRS).map(|_| (next(), next()));
    [(all, 0), (0, all)].into_iter().chain(random.collect::<Vec<_>>()).collect()
}

/// What is declared of the children of a model: without what the API server and other controllers write.
async fn children(namespace: &TestNamespace, name: &str) -> Result<Vec<Value>, String> {
    let selector = ListParams::default().labels(&format!("cllm.dev/model={name}"));
    let mut found = Vec::new();
    found.extend(listed::<Deployment>(namespace, &selector).await?);
    found.extend(listed::<Service>(namespace, &selector).await?);
    found.extend(listed::<NetworkPolicy>(namespace, &selector).await?);
    found.extend(listed::<PodDisruptionBudget>(namespace, &selector).await?);
    found.extend(listed::<HorizontalPodAutoscaler>(namespace, &selector).await?);
    Ok(found)
}

pub(crate) async fn listed<K>(namespace: &TestNamespace, selector: &ListParams) -> Result<Vec<Value>, String>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let list = namespace.api::<K>().list(selector).await.map_err(|error| error.to_string())?;
    Ok(list.items.iter().map(|object| normal(&json!(object))).collect())
}

fn normal(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut annotations = metadata["annotations"].clone();
    if let Value::Object(annotations) = &mut annotations {
        annotations
            .retain(|key, _| !["cllm.dev/declaration", "deployment.kubernetes.io/revision"].contains(&key.as_str()));
    }
    let mut spec = object["spec"].clone();
    if let Value::Object(spec) = &mut spec {
        // The selector of a Job is its uid.
        let assigned: &[&str] = if object["kind"] == "Job" { &["selector"] } else { &["clusterIP", "clusterIPs"] };
        spec.retain(|key, _| !assigned.contains(&key.as_str()));
    }
    if let Some(labels) = spec["template"]["metadata"]["labels"].as_object_mut() {
        labels.retain(|key, _| !key.contains("controller-uid"));
    }
    let mut labels = metadata["labels"].clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|key, _| !key.contains("controller-uid"));
    }
    let owners = metadata["ownerReferences"].as_array().map(Vec::len);
    json!({"kind": object["kind"], "name": metadata["name"], "labels": labels, "annotations": annotations, "owners": owners, "spec": spec})
}

fn forget_replicas(child: &mut Value) {
    if let Some(spec) = child["spec"].as_object_mut() {
        spec.remove("replicas");
    }
}

/// Replaces the spec, unless it is that one already.
async fn turn_into(namespace: &TestNamespace, name: &str, bits: u32) -> Result<(), String> {
    let models = namespace.api::<CllmModel>();
    let found = models.get(name).await.map_err(|error| error.to_string())?;
    let mut next = model(name, bits).map_err(|error| error.to_string())?;
    if found.spec == next.spec {
        return Ok(());
    }
    next.metadata.resource_version = found.resource_version();
    models.replace(name, &PostParams::default(), &next).await.map(|_| ()).map_err(|error| error.to_string())
}

/// Whether the operator has taken up the spec as it is now.
async fn is_taken_up(namespace: &TestNamespace, name: &str) -> Result<(), String> {
    let model = namespace.api::<CllmModel>().get(name).await.map_err(|error| error.to_string())?;
    let observed = model.status.as_ref().and_then(|status| status.observed_generation);
    if observed == model.metadata.generation { Ok(()) } else { Err(format!("{name}: generation {observed:?}")) }
}

#[tokio::test]
async fn a_spec_that_became_another_one_leaves_nothing_of_what_it_was() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let (changed, fresh) =
        (TestNamespace::create(cluster, "changed").await?, TestNamespace::create(cluster, "fresh").await?);
    let operators = [Operator::start(cluster, &changed).await?, Operator::start(cluster, &fresh).await?];
    let pairs: Vec<_> = pairs().into_iter().enumerate().map(|(index, pair)| (format!("model-{index}"), pair)).collect();
    for (name, (first, second)) in &pairs {
        create(&changed, &model(name, *first)?).await?;
        create(&fresh, &model(name, *second)?).await?;
    }
    for (name, _) in &pairs {
        eventually("the first spec to be taken up", 3 * SOON, async || is_taken_up(&changed, name).await).await?;
    }
    for (name, (_, second)) in &pairs {
        eventually("the spec to be replaced", SOON, async || turn_into(&changed, name, *second).await).await?;
    }
    for (name, pair) in &pairs {
        let same = eventually("the same children", 3 * SOON, async || {
            // The autoscaler of the first spec may have had the last word on the number of replicas.
            if pair.1 & AUTOSCALING == 0 {
                turn_into(&changed, name, pair.1).await?;
            }
            is_taken_up(&changed, name).await?;
            is_taken_up(&fresh, name).await?;
            let (mut left, mut right) = (children(&changed, name).await?, children(&fresh, name).await?);
            if pair.1 & AUTOSCALING != 0 {
                // The number is the autoscaler's: it goes on from where it was.
                left.iter_mut().chain(&mut right).for_each(forget_replicas);
            }
            if left == right && left.len() >= 4 { Ok(left.len()) } else { Err(first_difference(&left, &right)) }
        });
        same.await.map_err(|error| anyhow::anyhow!("{name} {pair:?}: {error}"))?;
    }
    ensure!(pairs.len() >= 40, "too few pairs");
    for operator in operators {
        operator.stop().await?;
    }
    Ok(())
}

pub(crate) fn first_difference(left: &[Value], right: &[Value]) -> String {
    let differing = left.iter().zip(right).find(|(left, right)| left != right);
    differing.map_or_else(
        || format!("{} and {} children", left.len(), right.len()),
        |(left, right)| format!("{left}\n{right}"),
    )
}
