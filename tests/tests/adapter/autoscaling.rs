//! The controller of Kubernetes that scales reads the figures through the API server and scales a model by them.

use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_crds::CllmModel;
use cllm_operator::adapter::Mode;
use cllm_tests::{TestNamespace, eventually, eventually_object};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{Cluster, Operator, Page, ROOT, SOON, figures, items, long_lived};

/// The controller looks every two seconds; it must have had the time to do something wrong.
const A_WHILE: Duration = Duration::from_secs(15);

pub(crate) fn model() -> anyhow::Result<CllmModel> {
    let value = json!({
        "apiVersion": "cllm.dev/v1alpha1", "kind": "CllmModel", "metadata": {"name": "text2sql", "labels": {"team": "sales"}},
        "spec": {
            "model": {"uri": "pvc://models/text2sql"},
            // Without a window in which the highest figure counts, so that whatever is wrong is seen at once.
            "autoscaling": {
                "minReplicas": 1, "maxReplicas": 3, "targetTokensPerSecond": 100,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        },
    });
    Ok(serde_json::from_value(value)?)
}

/// Waits until the model has so many Pods that are not about to end.
pub(crate) async fn pods(namespace: &TestNamespace, count: usize) -> anyhow::Result<Vec<Pod>> {
    let pods = namespace.api::<Pod>();
    let wanted = format!("{count} Pods");
    let found = eventually(&wanted, SOON, async || {
        let list = pods.list(&ListParams::default().labels("cllm.dev/model=text2sql")).await;
        let list = list.map_err(|error| error.to_string())?.items;
        let staying: Vec<_> = list.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        if staying.len() == count { Ok(staying) } else { Err(format!("{} Pods", staying.len())) }
    });
    Ok(found.await?)
}

/// What a kubelet would write of a Pod that runs and has that page.
pub(crate) async fn runs(namespace: &TestNamespace, pod: &Pod, page: &Page, ready: bool) -> anyhow::Result<()> {
    let ready = if ready { "True" } else { "False" };
    let address = page.address.to_string();
    let status = json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": ready}],
    }});
    namespace.api::<Pod>().patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_scales_a_model_by_its_tokens_per_second() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let operator = Operator::start(&cluster, Mode::Auto, long_lived()).await?;
    cluster.adapter_is_available().await?;
    let team = TestNamespace::create(&cluster.control_plane, "team").await?;
    team.api::<CllmModel>().create(&PostParams::default(), &model()?).await?;
    let first = pods(&team, 1).await?.remove(0);

    // A Pod that is not ready is not counted as one that does nothing.
    let busy = Page::start(&figures(250.0, 50.0, 3)).await?;
    runs(&team, &first, &busy, false).await?;
    let path = |object: &str, metric: &str| format!("{ROOT}/namespaces/{}/{object}/{metric}", team.name());
    let absent = cluster.raw(&path("pods/*", "cllm_tokens_per_second")).await.expect_err("nothing counts");
    ensure!(absent.contains("none of 1 Pods tells cllm_tokens_per_second: 1 not ready"), "{absent}");
    scaling_is(&team, "False", "none of 1 Pods").await?;

    runs(&team, &first, &busy, true).await?;
    paths_are_answered(&cluster, &path, &first.name_any()).await?;
    for outcome in ["answered", "absent", "invalid"] {
        ensure!(operator.answered("figures", outcome).await? > 0, "{outcome} is not counted");
    }
    // 250 tokens a second at 100 a replica.
    let three = pods(&team, 3).await?;
    scaling_is(&team, "True", "").await?;
    let others: Vec<_> = three.iter().filter(|pod| pod.name_any() != first.name_any()).collect();
    let idle = [Page::start(&figures(10.0, 1.0, 0)).await?, Page::start(&figures(10.0, 1.0, 0)).await?];
    for (pod, page) in others.iter().zip(&idle) {
        runs(&team, pod, page, true).await?;
    }
    let of_model = cluster.raw(&path("cllmmodels.cllm.dev/text2sql", "cllm_tokens_per_second")).await;
    let sum = items(&of_model.map_err(anyhow::Error::msg)?)?;
    ensure!(sum == [("text2sql".to_owned(), "270".to_owned())], "{sum:?}");
    // 90 on average is near enough.
    tokio::time::sleep(A_WHILE).await;
    pods(&team, 3).await?;

    // Two that do not answer any more are left out: the autoscaler takes them for as busy as they should be. As 0 they would go.
    for page in &idle {
        page.set(None);
    }
    busy.set(Some(figures(90.0, 20.0, 0)));
    tokio::time::sleep(A_WHILE).await;
    pods(&team, 3).await?;

    // All that answer and do nothing do go.
    for page in &idle {
        page.set(Some(figures(0.0, 0.0, 0)));
    }
    busy.set(Some(figures(0.0, 0.0, 0)));
    pods(&team, 1).await?;
    operator.stop().await
}

/// Every path that is documented, through the API server.
async fn paths_are_answered(cluster: &Cluster, path: &impl Fn(&str, &str) -> String, pod: &str) -> anyhow::Result<()> {
    let (of_pod, of_model) = (pod.to_owned(), "text2sql".to_owned());
    let named = format!("pods/{pod}");
    for (path, expected) in [
        (path("pods/*", "cllm_tokens_per_second"), [(&of_pod, "250")]),
        (path("pods/%2A", "cllm_utilization_percent?labelSelector=cllm.dev%2Fmodel%3Dtext2sql"), [(&of_pod, "50")]),
        (path("pods/*", "cllm_queued_requests?metricLabelSelector=model_name%3Dtext2sql"), [(&of_pod, "3")]),
        (path(&named, "cllm_queued_requests"), [(&of_pod, "3")]),
        (path("cllmmodels.cllm.dev/text2sql", "cllm_utilization_percent"), [(&of_model, "50")]),
        (path("cllmmodels.cllm.dev/*", "cllm_queued_requests?labelSelector=team%3Dsales"), [(&of_model, "3")]),
    ] {
        let list = cluster.raw(&path).await.map_err(anyhow::Error::msg).context(path.clone())?;
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).clone(), (*value).to_owned())).collect();
        ensure!(items(&list)? == expected, "{path}: {list}");
    }
    for (path, words) in [
        (
            path("pods/*", "cllm_tokens_per_second?labelSelector=cllm.dev%2Fmodel%3Dother"),
            "there is no Pod that could tell",
        ),
        (path("pods/*", "cllm_other"), "there is no metric cllm_other of pods"),
        (path("services/text2sql", "cllm_queued_requests"), "there is no metric cllm_queued_requests of services"),
        (path("cllmmodels.cllm.dev/other", "cllm_queued_requests"), "\"other\" not found"),
        (path("pods/*", "cllm_queued_requests?metricLabelSelector=a%20b"), "cannot read"),
    ] {
        let refusal = cluster.raw(&path).await.expect_err(words);
        ensure!(refusal.contains(words), "{path}: {refusal}");
    }
    Ok(())
}

/// Waits until the model says whether its autoscaler has metrics, in these words; the autoscaler agrees.
pub(crate) async fn scaling_is(team: &TestNamespace, status: &str, words: &str) -> anyhow::Result<()> {
    let condition = |list: Option<&Vec<Value>>| {
        let found = list?.iter().find(|condition| condition["type"] == "ScalingActive")?;
        let message = found["message"].as_str().unwrap_or_default();
        (found["status"] == status && message.contains(words)).then_some(())
    };
    let autoscalers = team.api::<HorizontalPodAutoscaler>();
    eventually_object(&autoscalers, "text2sql-model", &format!("ScalingActive={status}"), SOON, |autoscaler| {
        condition(json!(autoscaler)["status"]["conditions"].as_array())
    })
    .await?;
    eventually_object(&team.api::<CllmModel>(), "text2sql", &format!("ScalingActive={status}"), SOON, |model| {
        condition(json!(model)["status"]["conditions"].as_array())
    })
    .await?;
    Ok(())
}
