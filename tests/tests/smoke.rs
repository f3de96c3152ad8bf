//! What a platform engineer does on the first day, on a real node: install the chart, apply the example, see it train, get answers.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, ensure};
use cllm_crds::{CllmModel, CllmTraining, report::Report};
use cllm_operator::conditions::is_true;
use cllm_tests::product::{Product, binary, fill_example, repository};
use cllm_tests::{Cluster, TestNamespace, eventually_object, images};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinHandle};

const SOON: Duration = Duration::from_secs(90);
/// The whole training of the smoke example, on a busy machine with two cores.
const TRAINED_WITHIN: Duration = Duration::from_secs(420);

#[tokio::test]
async fn the_chart_is_installed_the_example_trains_and_its_result_answers() -> anyhow::Result<()> {
    let cluster = Cluster::start(1, &images()?).await?;
    let product = Product::install(&cluster, &[]).await?;
    product.test().await?;
    let team = TestNamespace::create_restricted(cluster.control_plane(), "team").await?;
    fill_example(&cluster, &team, &binary("text2sql-data")?).await?;
    let example = repository().join("examples/text2sql/smoke.yaml").display().to_string();
    cluster.control_plane().kubectl(&["apply", "-n", team.name(), "-f", &example]).await?;
    let watched = Watched::start(&team);
    let training = trained(&team).await.with_context(|| watched.seen())?;
    let status = training.status.unwrap_or_default();
    let output = status.output.context("no output")?;
    let digest = output.digest.trim_start_matches("sha256:").to_owned();

    let report =
        cluster.folder_of_claim(team.name(), "models").join("text2sql-smoke").join(&digest).join("report.json");
    let report: Report = serde_json::from_slice(&fs::read(&report).with_context(|| report.display().to_string())?)?;
    ensure!(status.speedup.as_ref() == Some(&report.speedup), "{:?} is not {:?}", status.speedup, report.speedup);
    ensure!(status.quality.as_ref() == Some(&report.quality), "{:?} is not {:?}", status.quality, report.quality);
    let seen = watched.stages();
    ensure!(
        ["Collecting", "Training", "Evaluating"].iter().all(|stage| seen.contains(*stage)),
        "stages seen: {seen:?}"
    );
    ensure!(watched.progress().len() > 2, "progress seen: {:?}", watched.progress());

    let model = eventually_object(
        &team.api::<CllmModel>(),
        "text2sql-smoke",
        "the model to be Ready",
        SOON,
        |model: &CllmModel| is_true(&model.status.as_ref()?.conditions, "Ready").then(|| model.clone()),
    )
    .await?;
    let served = model.status.and_then(|status| status.model).context("nothing is served")?;
    ensure!(served.digest.as_deref() == Some(output.digest.as_str()), "{served:?} is not {output:?}");

    answers_in_the_cluster(&cluster, &team).await?;
    answers_outside(&cluster, &team).await?;
    watched.ensure_ready_was_never_wrong()?;
    product.uninstall().await?;
    Ok(product.only_the_definitions_are_left().await?)
}

async fn trained(team: &TestNamespace) -> anyhow::Result<CllmTraining> {
    let trainings = team.api::<CllmTraining>();
    let ended = eventually_object(
        &trainings,
        "text2sql-smoke",
        "the training to end",
        TRAINED_WITHIN,
        |training: &CllmTraining| {
            let conditions = &training.status.as_ref()?.conditions;
            (is_true(conditions, "Complete") || is_true(conditions, "Failed")).then(|| training.clone())
        },
    )
    .await?;
    let conditions = ended.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for type_ in ["Complete", "Ready", "SpeedupVerified", "QualityVerified", "TrajectoriesCollected", "Trained"] {
        ensure!(is_true(conditions, type_), "{type_} is not true: {conditions:#?}");
    }
    Ok(ended)
}

/// `cllm chat` in a Pod of the same namespace, through the Service by its name.
async fn answers_in_the_cluster(cluster: &Cluster, team: &TestNamespace) -> anyhow::Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "chat"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "chat", "image": concat!("cllm:", env!("CARGO_PKG_VERSION")), "imagePullPolicy": "Never", "command": ["cllm"],
                "args": ["chat", "--url", "http://text2sql-smoke/v1", "--json", "How many customers are there?"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
            }],
        },
    }))?;
    team.api::<Pod>().create(&PostParams::default(), &pod).await?;
    let ended = eventually_object(&team.api::<Pod>(), "chat", "cllm chat to end", SOON, |pod: &Pod| {
        pod.status.as_ref()?.phase.clone().filter(|phase| phase == "Succeeded" || phase == "Failed")
    })
    .await?;
    let said = cluster.control_plane().kubectl(&["logs", "-n", team.name(), "chat"]).await?.stdout;
    ensure!(ended == "Succeeded", "cllm chat ended as {ended}: {said}");
    let answer: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).with_context(|| said.clone())?;
    ensure!(answer["text"].as_str().is_some_and(|text| text.to_uppercase().contains("SELECT")), "{said}");
    Ok(())
}

/// The openai client on this machine, through a forwarded port.
async fn answers_outside(cluster: &Cluster, team: &TestNamespace) -> anyhow::Result<()> {
    let forward = cluster.control_plane().forward(team.name(), "service/text2sql-smoke", 80).await?;
    let script = repository().join("tests/openai/run.sh");
    let output =
        Command::new("bash").arg(script).arg(format!("{}/v1", forward.url())).arg("text2sql-smoke").output().await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the openai client: {said}");
    Ok(())
}

/// What was seen of the resources while they changed.
struct Watched {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    stages: BTreeSet<String>,
    progress: BTreeSet<(String, u32)>,
    /// Each time that the model said Ready while no replica was.
    wrong: Vec<String>,
}

impl Watched {
    fn start(team: &TestNamespace) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (trainings, models, pods) = (team.api::<CllmTraining>(), team.api::<CllmModel>(), team.api::<Pod>());
        let writer = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                look(&trainings, &models, &pods, &writer).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { seen, task }
    }

    fn stages(&self) -> BTreeSet<String> {
        self.seen.lock().map(|seen| seen.stages.clone()).unwrap_or_default()
    }

    fn progress(&self) -> BTreeSet<(String, u32)> {
        self.seen.lock().map(|seen| seen.progress.clone()).unwrap_or_default()
    }

    fn seen(&self) -> String {
        format!("{:?}", self.seen.lock())
    }

    fn ensure_ready_was_never_wrong(&self) -> anyhow::Result<()> {
        let wrong = self.seen.lock().map(|seen| seen.wrong.clone()).unwrap_or_default();
        ensure!(wrong.is_empty(), "Ready without a ready replica: {wrong:?}");
        Ok(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(trainings: &Api<CllmTraining>, models: &Api<CllmModel>, pods: &Api<Pod>, seen: &Mutex<Seen>) {
    let status =
        trainings.get_status("text2sql-smoke").await.ok().and_then(|training| training.status).unwrap_or_default();
    // The Pods are read first and the model between two looks at them, so that a Pod that came or went meanwhile is no error.
    let before = ready_pods(pods).await;
    let model = models.get_status("text2sql-smoke").await.ok().and_then(|model| model.status).unwrap_or_default();
    let after = ready_pods(pods).await;
    let Ok(mut seen) = seen.lock() else { return };
    if let Some(stage) = status.stage {
        seen.stages.insert(format!("{stage:?}"));
        if let Some(progress) = status.progress {
            seen.progress.insert((format!("{stage:?}"), progress.progress_percentage));
        }
    }
    if is_true(&model.conditions, "Ready") && before == Some(0) && after == Some(0) {
        seen.wrong.push(format!("{:?}", model.conditions));
    }
}

async fn ready_pods(pods: &Api<Pod>) -> Option<usize> {
    let list = pods.list(&ListParams::default().labels("cllm.dev/model=text2sql-smoke")).await.ok()?;
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Some(list.iter().filter(is_ready).count())
}
