//! A `CllmModel` from its creation to its end.

use anyhow::ensure;
use cllm_crds::CllmModel;
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Operator, SOON, cluster, create, exists, model_resource, play_kubelet_until_ready, rests};

#[tokio::test]
async fn a_model_gets_its_objects_loses_none_and_at_rest_nothing_is_written() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create_restricted(cluster, "model").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = model_resource(&json!({"uri": "pvc://models/text2sql"}))?;
    // What the API server writes in another form than it was declared, or fills up with defaults.
    resource.spec.pod.resources = serde_json::from_value(
        json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1024Mi"}}),
    )?;
    resource.spec.pod.tolerations = serde_json::from_value(json!([{"key": "serving", "operator": "Exists"}]))?;
    resource.spec.network_policy = serde_json::from_value(json!({"ingressFrom": [{"podSelector": {}}]}))?;
    resource.spec.autoscaling = serde_json::from_value(
        json!({"minReplicas": 1, "maxReplicas": 4, "targetQueuedRequests": 4, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}),
    )?;
    create(&namespace, &resource).await?;

    let deployment = exists::<Deployment>(&namespace, "text2sql-model", None).await?;
    let service = exists::<Service>(&namespace, "text2sql", None).await?;
    exists::<NetworkPolicy>(&namespace, "text2sql-model", None).await?;
    exists::<PodDisruptionBudget>(&namespace, "text2sql-model", None).await?;
    let models = namespace.api::<CllmModel>();
    eventually_object(&models, "text2sql", "the replica to exist", SOON, |model| {
        let status = model.status.as_ref()?;
        let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
        let is_progressing = condition("Ready")?.status == "False" && condition("Reconciling")?.status == "True";
        (is_progressing && status.replicas == 1 && status.model.as_ref()?.image == "registry.example/cllm-server:test")
            .then_some(())
    })
    .await?;

    namespace.api::<Service>().delete("text2sql", &DeleteParams::default()).await?;
    exists::<Service>(&namespace, "text2sql", Some(&service)).await?;
    namespace.api::<Deployment>().delete("text2sql-model", &DeleteParams::foreground()).await?;
    exists::<Deployment>(&namespace, "text2sql-model", Some(&deployment)).await?;
    let changed = json!({"spec": {"replicas": 7}});
    namespace.api::<Deployment>().patch("text2sql-model", &PatchParams::default(), &Patch::Merge(changed)).await?;
    let replicas = |deployment: &Deployment| deployment.spec.as_ref()?.replicas.filter(|replicas| *replicas == 1);
    eventually_object(&namespace.api::<Deployment>(), "text2sql-model", "one replica again", SOON, replicas).await?;

    play_kubelet_until_ready(&namespace).await?;
    rests(&operator, async |turn| {
        let poke = json!({"metadata": {"annotations": {"poke": turn.to_string()}}});
        models.patch("text2sql", &PatchParams::default(), &Patch::Merge(poke)).await.map(|_| ())
    })
    .await?;
    operator.stop().await
}

#[tokio::test]
async fn an_autoscaler_comes_scales_the_model_and_goes() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "autoscaling").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    exists::<Deployment>(&namespace, "text2sql-model", None).await?;
    let models = namespace.api::<CllmModel>();

    let autoscaling =
        json!({"spec": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetTokensPerSecond": 100}}});
    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(autoscaling)).await?;
    exists::<HorizontalPodAutoscaler>(&namespace, "text2sql-model", None).await?;
    let has = |wanted: i32| {
        move |deployment: &Deployment| deployment.spec.as_ref()?.replicas.filter(|replicas| *replicas == wanted)
    };
    let deployments = namespace.api::<Deployment>();
    eventually_object(&deployments, "text2sql-model", "the fewest replicas", SOON, has(2)).await?;

    // As the autoscaler would.
    let scale = json!({"spec": {"replicas": 3}});
    models.patch_scale("text2sql", &PatchParams::default(), &Patch::Merge(scale)).await?;
    eventually_object(&deployments, "text2sql-model", "what the scale subresource says", SOON, has(3)).await?;
    // It finds the replicas through the scale subresource, and has no metrics: an operator for one namespace offers none, and says so.
    eventually_object(&models, "text2sql", "the autoscaler to complain", SOON, |model| {
        let conditions = &model.status.as_ref()?.conditions;
        conditions
            .iter()
            .find(|condition| condition.type_ == "ScalingActive" && condition.reason == "AdapterDisabled")
            .map(|_| ())
    })
    .await?;

    models.patch("text2sql", &PatchParams::default(), &Patch::Merge(json!({"spec": {"autoscaling": null}}))).await?;
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    eventually("the autoscaler to be gone", SOON, async || match autoscalers.get_opt("text2sql-model").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    operator.stop().await
}

/// Every change of the number of replicas, and nothing else that happens here, makes another generation of the Deployment.
async fn generation(namespace: &TestNamespace, replicas: i32) -> anyhow::Result<Option<i64>> {
    let what = format!("{replicas} replicas");
    let deployments = namespace.api::<Deployment>();
    let found = eventually_object(&deployments, "text2sql-model", &what, SOON, |deployment| {
        let is_as_wanted = deployment.spec.as_ref()?.replicas == Some(replicas);
        is_as_wanted.then_some(deployment.metadata.generation)
    });
    Ok(found.await?)
}

#[tokio::test]
async fn an_autoscaler_is_turned_on_and_off_and_on_without_a_jump() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "handover").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = model_resource(&json!({"uri": "pvc://models/text2sql"}))?;
    resource.spec.replicas = 5;
    create(&namespace, &resource).await?;
    let five = generation(&namespace, 5).await?;
    let models = namespace.api::<CllmModel>();
    let becomes = async |spec: Value| {
        models.patch("text2sql", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await
    };
    let stays = async |replicas: u32| {
        let is_told = |model: &CllmModel| {
            let is_seen = model.status.as_ref()?.observed_generation == model.metadata.generation;
            (is_seen && model.spec.replicas == replicas).then_some(())
        };
        eventually_object(&models, "text2sql", "the number to be in the spec", SOON, is_told).await
    };

    // As a manifest without the number: the API server makes it 1.
    let autoscaling = || json!({"minReplicas": 1, "maxReplicas": 8, "targetUtilization": 70});
    becomes(json!({"replicas": null, "autoscaling": autoscaling()})).await?;
    let first = exists::<HorizontalPodAutoscaler>(&namespace, "text2sql-model", None).await?;
    stays(5).await?;
    ensure!(generation(&namespace, 5).await? == five, "there was another number of replicas when it was turned on");

    // As the autoscaler would.
    models.patch_scale("text2sql", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 6}}))).await?;
    let six = generation(&namespace, 6).await?;
    becomes(json!({"autoscaling": null})).await?;
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    eventually("the autoscaler to be gone", SOON, async || match autoscalers.get_opt("text2sql-model").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    stays(6).await?;
    ensure!(generation(&namespace, 6).await? == six, "there was another number of replicas when it was turned off");

    becomes(json!({"autoscaling": autoscaling()})).await?;
    exists::<HorizontalPodAutoscaler>(&namespace, "text2sql-model", Some(&first)).await?;
    stays(6).await?;
    ensure!(
        generation(&namespace, 6).await? == six,
        "there was another number of replicas when it was turned on again"
    );
    operator.stop().await
}

#[tokio::test]
async fn an_autoscaler_may_take_replicas_away_once_one_has_answered() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "answered").await?;
    let operator = Operator::start(cluster, &namespace).await?;
    let mut resource = model_resource(&json!({"uri": "pvc://models/text2sql"}))?;
    resource.spec.autoscaling =
        serde_json::from_value(json!({"minReplicas": 2, "maxReplicas": 4, "targetUtilization": 70}))?;
    create(&namespace, &resource).await?;
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    let policy = |autoscaler: &HorizontalPodAutoscaler| {
        let behavior = autoscaler.spec.as_ref()?.behavior.as_ref()?;
        behavior.scale_down.as_ref()?.select_policy.clone()
    };
    let disabled = |autoscaler: &HorizontalPodAutoscaler| policy(autoscaler).filter(|policy| policy == "Disabled");
    eventually_object(&autoscalers, "text2sql-model", "none to be taken away", SOON, disabled).await?;
    play_kubelet_until_ready(&namespace).await?;
    let allowed =
        |autoscaler: &HorizontalPodAutoscaler| (policy(autoscaler).as_deref() != Some("Disabled")).then_some(());
    eventually_object(&autoscalers, "text2sql-model", "some to be taken away", SOON, allowed).await?;
    operator.stop().await
}
