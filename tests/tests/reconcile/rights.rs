//! The operator as a service account with the rights that it says it needs, and nothing more: each of them is used.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_operator::controller::LeaderElection;
use cllm_operator::election::Timing;
use cllm_operator::rbac::{lease_rules, rules};
use cllm_tests::{ControlPlane, TestNamespace, eventually, eventually_object};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::AuthInfo;
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::support::{
    Operator, SOON, before_each_request, cluster, condition, create, evaluated, exists, finish_pods, hang_on_mount,
    model_resource, pod, training_resource,
};

/// `verb group/resource`.
type Rights = BTreeSet<String>;

fn granted() -> Rights {
    let of = |rule: PolicyRule| {
        let (groups, resources) = (rule.api_groups.unwrap_or_default(), rule.resources.unwrap_or_default());
        let all = groups.into_iter().flat_map(move |group| {
            let resources = resources.clone();
            resources.into_iter().map(move |resource| format!("{group}/{resource}"))
        });
        let verbs = rule.verbs;
        all.flat_map(|resource| verbs.iter().map(move |verb| format!("{verb} {resource}")).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    rules().into_iter().chain(lease_rules()).flat_map(of).collect()
}

/// What a request needs, as the API server reads it. Server-side apply also needs `create` where the object is new.
fn needed(request: &http::request::Parts) -> Option<String> {
    let path: Vec<_> = request.uri.path().trim_matches('/').split('/').collect();
    let (group, rest) = match path.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] | rest => rest,
    };
    let resource = match rest {
        [resource, _, subresource] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => return None,
    };
    let is_watch = request.uri.query().is_some_and(|query| query.contains("watch=true"));
    let verb = match (request.method.as_str(), rest.len()) {
        ("GET", 1) if is_watch => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => return None,
    };
    Some(format!("{verb} {group}/{resource}"))
}

/// A service account with these rules in this namespace, and a client that is it.
pub(crate) async fn account(
    cluster: &ControlPlane,
    namespace: &TestNamespace,
    rules: Vec<PolicyRule>,
) -> anyhow::Result<Client> {
    let name = "cllm-operator";
    let metadata = json!({"name": name});
    create::<ServiceAccount>(namespace, &serde_json::from_value(json!({"metadata": metadata}))?).await?;
    create::<Role>(namespace, &serde_json::from_value(json!({"metadata": metadata, "rules": rules}))?).await?;
    let binding = json!({
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name()}],
    });
    create::<RoleBinding>(namespace, &serde_json::from_value(binding)?).await?;
    let accounts = namespace.api::<ServiceAccount>();
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}}))?;
    let token = accounts.create_token_request(name, &PostParams::default(), &request).await?;
    let token = token.status.context("no token")?.token;
    let mut config = cluster.config().clone();
    config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    Ok(Client::try_from(config)?)
}

#[tokio::test]
async fn the_operator_has_every_right_that_it_needs_and_needs_every_right_that_it_has() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "rights").await?;
    let client = account(cluster, &namespace, rules().into_iter().chain(lease_rules()).collect()).await?;
    let used = Arc::new(Mutex::new(Rights::new()));
    let record = used.clone();
    let client = before_each_request(client, move |request| {
        record.lock().unwrap_or_else(PoisonError::into_inner).extend(needed(request));
        std::future::ready(())
    });
    let election = LeaderElection {
        namespace: namespace.name().to_owned(),
        name: "cllm-operator".to_owned(),
        identity: "operator".to_owned(),
        timing: Timing { retry_period: Duration::from_millis(300), ..Timing::default() },
    };
    let operator = Operator::start_with(client, &namespace, Some(election)).await?;
    everything_happens(&namespace).await?;
    // What was applied anew was patched, which needs `create` too.
    let used = used.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let exceptions = |right: &String| {
        right.contains("/finalizers")
            || right == "patch events.k8s.io/events"
            || right.strip_prefix("create ").is_some_and(|resource| used.contains(&format!("patch {resource}")))
            // Pruned only when a later version names a child otherwise, or a volume's or a policy's reason goes away.
            || right.starts_with("delete ")
            || right.starts_with("get ")
    };
    let granted = granted();
    let missing: Vec<_> = used.difference(&granted).collect();
    ensure!(missing.is_empty(), "used but not granted: {missing:?}");
    let unused: Vec<_> = granted.difference(&used).filter(|right| !exceptions(right)).collect();
    ensure!(unused.is_empty(), "granted but not used: {unused:?}");
    operator.stop().await
}

/// A model with an autoscaler that comes and goes, and a training to its end, after which its Jobs go.
async fn everything_happens(namespace: &TestNamespace) -> anyhow::Result<()> {
    let mut training = training_resource()?;
    training.spec.trajectories.shards = 1;
    training.spec.ttl_seconds_after_finished = Some(0);
    training.spec.suspend = true;
    create(namespace, &training).await?;
    condition::<CllmTraining>(namespace, "Suspended", "True", "Suspended").await?;
    let resume = json!({"spec": {"suspend": false}});
    namespace.api::<CllmTraining>().patch("text2sql", &PatchParams::default(), &Patch::Merge(resume)).await?;
    hang_on_mount(namespace, &pod(namespace).await?).await?;
    condition::<CllmTraining>(namespace, "Degraded", "True", "MountFailed").await?;
    finish_pods(namespace, "collect", 1, &json!({"stage": "Collecting"})).await?;
    let jobs = namespace.api::<Job>();
    let name = eventually("the Job that trains", SOON, async || {
        let list = jobs.list(&ListParams::default().labels("cllm.dev/stage=train")).await;
        let list = list.map_err(|error| error.to_string())?;
        list.iter().next().map(ResourceExt::name_any).ok_or_else(|| "none".to_owned())
    })
    .await?;
    // Put back by a change of the Job.
    let edited = json!({"spec": {"backoffLimit": 99}});
    jobs.patch(&name, &PatchParams::default(), &Patch::Merge(edited)).await?;
    finish_pods(namespace, "train", 1, &json!({"stage": "Training"})).await?;
    finish_pods(namespace, "evaluate", 1, &evaluated()).await?;
    condition::<CllmTraining>(namespace, "Complete", "True", "Succeeded").await?;
    eventually("the Jobs and the claim to be deleted", SOON, async || {
        let jobs = jobs.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let claims = namespace.api::<PersistentVolumeClaim>().list(&ListParams::default()).await;
        let claims = claims.map_err(|error| error.to_string())?;
        let are_gone = claims.iter().all(|claim| claim.metadata.deletion_timestamp.is_some());
        if jobs.items.is_empty() && are_gone { Ok(()) } else { Err(format!("{} Jobs", jobs.items.len())) }
    })
    .await?;
    let status = namespace.api::<CllmTraining>().get("text2sql").await?.status.context("no status")?;
    ensure!(status.output.is_some() && status.jobs.len() == 3, "{status:?}");

    let mut model = model_resource(&json!({"trainingRef": {"name": "text2sql"}}))?;
    model.spec.replicas = 2;
    create(namespace, &model).await?;
    exists::<Deployment>(namespace, "text2sql-model", None).await?;
    let models = namespace.api::<CllmModel>();
    let autoscaling =
        json!({"spec": {"replicas": null, "autoscaling": {"maxReplicas": 2, "targetTokensPerSecond": 100}}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(autoscaling)).await?;
    exists::<HorizontalPodAutoscaler>(namespace, "text2sql-model", None).await?;
    let handed_over = |model: &CllmModel| (model.spec.replicas == 2).then_some(());
    eventually_object(&models, "text2sql", "what runs to be handed over", SOON, handed_over).await?;
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(json!({"spec": {"autoscaling": null}}))).await?;
    eventually("the autoscaler to be gone", SOON, async || {
        match namespace.api::<HorizontalPodAutoscaler>().get_opt("text2sql-model").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let events = namespace.api::<Event>();
    let wanted = ["StageStarted", "StageSucceeded", "GatePassed", "Succeeded"];
    eventually("the Events of a training", SOON, async || {
        let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let ours = list.iter().filter(|event| event.reporting_controller.as_deref() == Some("cllm.dev/operator"));
        let told: Vec<_> = ours.filter_map(|event| event.reason.clone()).collect();
        if wanted.iter().all(|word| told.iter().any(|reason| reason == word)) {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await?;
    Ok(())
}
