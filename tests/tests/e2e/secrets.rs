//! Secrets that are not there, lack a key or are refused: said with their names, and nothing of them is said.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use cllm_crds::{CllmModel, CllmTraining};
use cllm_tests::{
    Cluster, TestNamespace,
    product::Product,
    sources::{Hub, SECRET_KEY, s3},
};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::{
    scenario::{
        TRAINED_WITHIN, cluster, create_model, create_training, degraded, is_true, named_model_is_ready, team,
        training_condition, training_is_degraded, write_keys,
    },
    sources::{TOKEN, checkpoint, s3_keys, write},
};

/// The kubelet waits up to five minutes between two starts, and up to two between two mounts.
const RECOVERS_WITHIN: Duration = Duration::from_secs(360);
const SECRETS: [&str; 4] = [TOKEN, "hidden-wrong-token", SECRET_KEY, "hidden-wrong-key"];

/// What is wrong with a Secret, and what is said of it.
struct Case {
    name: &'static str,
    model: Value,
    /// The keys at first; `None`: there is no such Secret.
    wrong: Option<Value>,
    right: Value,
    reason: &'static str,
    says: [&'static str; 3],
}

fn cases(hub: &str, store: &str) -> Vec<Case> {
    let of_hub = || json!({"uri": "hf://org/name", "endpoint": hub, "secretRef": {"name": "access"}});
    let of_store = json!({"uri": "s3://bucket/model", "endpoint": store, "secretRef": {"name": "access"}});
    let token = || json!({"token": TOKEN});
    vec![
        Case {
            name: "missing",
            model: of_hub(),
            wrong: None,
            right: token(),
            reason: "MountFailed",
            says: ["secret \"access\" not found", "Create what is missing", "spec"],
        },
        Case {
            name: "keyless",
            model: of_hub(),
            wrong: Some(json!({"password": TOKEN})),
            right: token(),
            reason: "ContainerFailed",
            says: ["Secret access", "the key token is missing", "add it to the Secret"],
        },
        Case {
            name: "wrong",
            model: of_hub(),
            wrong: Some(json!({"token": "hidden-wrong-token"})),
            right: token(),
            reason: "ContainerFailed",
            says: ["401", "read from Secret access", "check that the token is valid"],
        },
        Case {
            name: "refused",
            model: of_store,
            wrong: Some(s3_keys("hidden-wrong-key")),
            right: s3_keys(SECRET_KEY),
            reason: "ContainerFailed",
            says: ["403", "Secret access", "check that the keys are valid"],
        },
    ]
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_wrong_secret_is_named_and_nothing_of_it_is_said_and_a_corrected_one_is_taken_up() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    let hub = Hub::start_at(cluster.address(), checkpoint()?).await;
    hub.require_token(TOKEN);
    let server = s3(cluster.address()).await?;
    write(&server.folder().join("buckets/bucket/model"), &checkpoint()?)?;
    let mut teams = Vec::new();
    for case in cases(&hub.endpoint, &format!("http://{}", server.address())) {
        let namespace = team(&cluster, case.name).await?;
        if let Some(keys) = &case.wrong {
            write_keys(&namespace, "Secret", "access", keys.clone()).await?;
        }
        create_model(&namespace, json!({"model": case.model})).await?;
        create_training(&namespace, json!({"model": case.model, "dataset": {"maxExamples": 16}})).await?;
        let watch = NeverReady::start(&namespace);
        teams.push((namespace, watch, case));
    }
    for (namespace, _, case) in &teams {
        is_said(namespace, case).await.context(case.name)?;
    }
    for (namespace, watch, case) in &teams {
        nothing_is_told(&cluster, namespace.name()).await.context(case.name)?;
        ensure!(!watch.was_ready(), "{}: it was Ready with a wrong Secret", case.name);
        watch.stop();
        write_keys(namespace, "Secret", "access", case.right.clone()).await?;
    }
    for (namespace, _, case) in &teams {
        named_model_is_ready(namespace, "text2sql", RECOVERS_WITHIN).await.context(case.name)?;
        // The training that was held up goes on.
        training_condition(namespace, "TrajectoriesCollected", "True", TRAINED_WITHIN).await.context(case.name)?;
        nothing_is_told(&cluster, namespace.name()).await.context(case.name)?;
    }
    nothing_is_told(&cluster, product.namespace()).await
}

/// By the model and by the training: the reason, the Pod, the Secret and the next step.
async fn is_said(namespace: &TestNamespace, case: &Case) -> anyhow::Result<()> {
    let model = degraded(namespace, "text2sql", case.reason).await?;
    let degraded = training_is_degraded(namespace).await?;
    ensure!(degraded.reason == case.reason, "{degraded:?}");
    let training = degraded.message;
    for (message, pod) in [(&model, "Pod text2sql-model-"), (&training, "Pod text2sql-collect-")] {
        ensure!(message.contains(pod), "{message}");
        ensure!(case.says.iter().all(|words| message.contains(words)), "{message} does not say {:?}", case.says);
    }
    let training = namespace.api::<CllmTraining>().get("text2sql").await?;
    ensure!(!is_true(&training.status.unwrap_or_default().conditions, "Ready"), "the training is Ready");
    Ok(())
}

/// Looks through all that people can read but the Secrets themselves: objects with their statuses, events, logs.
async fn nothing_is_told(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let kinds = "pods,events,deployments,replicasets,jobs,services,configmaps,cllmmodels,cllmtrainings,networkpolicies";
    let kubectl = async |arguments: &[&str]| cluster.control_plane().kubectl(arguments).await;
    let mut told = kubectl(&["get", kinds, "-n", namespace, "-o", "yaml"]).await?.stdout;
    ensure!(told.contains("kind: Pod"), "nothing was looked at");
    let pods = kubectl(&["get", "pods", "-n", namespace, "-o", "name"]).await?.stdout;
    for pod in pods.lines() {
        for previous in ["--previous=false", "--previous=true"] {
            // There are no logs of what has not started, or not ended.
            let logs = kubectl(&["logs", "-n", namespace, pod, "--all-containers", previous]).await;
            told.extend(logs.map(|logs| logs.stdout));
        }
    }
    for secret in SECRETS {
        ensure!(!told.contains(secret), "{secret} is told: {}", around(&told, secret));
        let encoded = base64(secret);
        ensure!(!told.contains(&encoded), "{secret} is told encoded: {}", around(&told, &encoded));
    }
    Ok(())
}

fn around<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or_default()
}

/// Without the last characters, which depend on what follows.
fn base64(text: &str) -> String {
    STANDARD.encode(&text.as_bytes()[..text.len() / 3 * 3])
}

/// Looks again and again whether the models of a namespace are Ready.
struct NeverReady {
    was_ready: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl NeverReady {
    fn start(namespace: &TestNamespace) -> Self {
        let (models, was_ready) = (namespace.api::<CllmModel>(), Arc::<AtomicBool>::default());
        let noted = Arc::clone(&was_ready);
        let task = tokio::spawn(async move {
            loop {
                let list = models.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
                let is_ready = |model: &CllmModel| {
                    model.status.as_ref().is_some_and(|status| is_true(&status.conditions, "Ready"))
                };
                noted.fetch_or(list.iter().any(is_ready), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { was_ready, task }
    }

    fn was_ready(&self) -> bool {
        self.was_ready.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for NeverReady {
    fn drop(&mut self) {
        self.task.abort();
    }
}
