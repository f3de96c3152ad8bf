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
use cllm_tests::product::{Product, binary, fill_example_with, repository};
use cllm_tests::{Cluster, ReadySampler, TestNamespace, eventually_object, images};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinHandle};

const SOON: Duration = Duration::from_secs(90);

/// What is applied, and how long its training may take on a busy machine with two cores.
struct Example {
    file: &'static str,
    /// Of the training and the model in it.
    name: &'static str,
    /// Arguments of `text2sql-data`.
    sizes: &'static [&'static str],
    trained_within: Duration,
}

#[tokio::test]
async fn the_chart_is_installed_the_example_trains_and_its_result_answers() -> anyhow::Result<()> {
    let example = Example {
        file: "smoke.yaml",
        name: "text2sql-smoke",
        sizes: &["--train=2000", "--dev=100", "--test=200"],
        trained_within: Duration::from_secs(420),
    };
    Box::pin(install_train_and_answer(&example)).await
}

/// The example as it is, with its gates: only binaries that were built for speed pass them.
#[tokio::test]
#[ignore = "a quarter of an hour: make e2e"]
async fn the_full_example_passes_its_gates_and_answers() -> anyhow::Result<()> {
    let example =
        Example { file: "text2sql.yaml", name: "text2sql", sizes: &[], trained_within: Duration::from_secs(3600) };
    Box::pin(install_train_and_answer(&example)).await
}

async fn install_train_and_answer(example: &Example) -> anyhow::Result<()> {
    let &Example { file, name, sizes, trained_within } = example;
    let cluster = Cluster::start(1, &images()?).await?;
    let product = Product::install(&cluster, &[]).await?;
    product.test().await?;
    let team = TestNamespace::create_restricted(cluster.control_plane(), "team").await?;
    fill_example_with(&cluster, &team, &binary("text2sql-data")?, sizes).await?;
    let file = repository().join("examples/text2sql").join(file).display().to_string();
    cluster.control_plane().kubectl(&["apply", "-n", team.name(), "-f", &file]).await?;
    let sampler = ReadySampler::start(&team, Duration::ZERO);
    let watched = Watched::start(&team, name);
    let training = trained(&team, name, trained_within).await.with_context(|| watched.seen())?;
    let status = training.status.unwrap_or_default();
    let output = status.output.context("no output")?;
    let digest = output.digest.trim_start_matches("sha256:").to_owned();

    let report = cluster.folder_of_claim(team.name(), "models").join(name).join(&digest).join("report.json");
    let report: Report = serde_json::from_slice(&fs::read(&report).with_context(|| report.display().to_string())?)?;
    ensure!(status.speedup.as_ref() == Some(&report.speedup), "{:?} is not {:?}", status.speedup, report.speedup);
    ensure!(status.quality.as_ref() == Some(&report.quality), "{:?} is not {:?}", status.quality, report.quality);
    tell(&report);
    let seen = watched.stages();
    ensure!(
        ["Collecting", "Training", "Evaluating"].iter().all(|stage| seen.contains(*stage)),
        "stages seen: {seen:?}"
    );
    ensure!(watched.progress().len() > 2, "progress seen: {:?}", watched.progress());

    let model =
        eventually_object(&team.api::<CllmModel>(), name, "the model to be Ready", SOON, |model: &CllmModel| {
            is_true(&model.status.as_ref()?.conditions, "Ready").then(|| model.clone())
        })
        .await?;
    let served = model.status.and_then(|status| status.model).context("nothing is served")?;
    ensure!(served.digest.as_deref() == Some(output.digest.as_str()), "{served:?} is not {output:?}");

    answers_in_the_cluster(&cluster, &team, name).await?;
    answers_outside(&cluster, &team, name).await?;
    ensure!(sampler.wrong().is_empty(), "Ready without a ready replica: {:?}", sampler.wrong());
    product.uninstall().await?;
    Ok(product.only_the_definitions_are_left().await?)
}

/// The figures, for whoever runs it with `--nocapture`.
#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn tell(report: &Report) {
    println!("{:?}\n{:?}", report.speedup, report.quality);
}

async fn trained(team: &TestNamespace, name: &str, within: Duration) -> anyhow::Result<CllmTraining> {
    let trainings = team.api::<CllmTraining>();
    let ended = eventually_object(&trainings, name, "the training to end", within, |training: &CllmTraining| {
        let conditions = &training.status.as_ref()?.conditions;
        (is_true(conditions, "Complete") || is_true(conditions, "Failed")).then(|| training.clone())
    })
    .await?;
    let conditions = ended.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for type_ in ["Complete", "Ready", "SpeedupVerified", "QualityVerified", "TrajectoriesCollected", "Trained"] {
        ensure!(is_true(conditions, type_), "{type_} is not true: {conditions:#?}");
    }
    Ok(ended)
}

/// `cllm chat` in a Pod of the same namespace, through the Service by its name.
async fn answers_in_the_cluster(cluster: &Cluster, team: &TestNamespace, model: &str) -> anyhow::Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "chat"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "chat", "image": concat!("cllm:", env!("CARGO_PKG_VERSION")), "imagePullPolicy": "Never", "command": ["cllm"],
                "args": ["chat", "--url", format!("http://{model}/v1"), "--json", "How many customers are there?"],
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
async fn answers_outside(cluster: &Cluster, team: &TestNamespace, model: &str) -> anyhow::Result<()> {
    let forward = cluster.control_plane().forward(team.name(), &format!("service/{model}"), 80).await?;
    let script = repository().join("tests/openai/run.sh");
    let output = Command::new("bash").arg(script).arg(format!("{}/v1", forward.url())).arg(model).output().await?;
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
}

impl Watched {
    fn start(team: &TestNamespace, name: &'static str) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let trainings = team.api::<CllmTraining>();
        let writer = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                look(name, &trainings, &writer).await;
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
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(name: &str, trainings: &Api<CllmTraining>, seen: &Mutex<Seen>) {
    let status = trainings.get_status(name).await.ok().and_then(|training| training.status).unwrap_or_default();
    let Ok(mut seen) = seen.lock() else { return };
    if let Some(stage) = status.stage {
        seen.stages.insert(format!("{stage:?}"));
        if let Some(progress) = status.progress {
            seen.progress.insert((format!("{stage:?}"), progress.progress_percentage));
        }
    }
}
