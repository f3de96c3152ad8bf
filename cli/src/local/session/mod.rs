//! The loop of local mode: observe, start what is due, derive the statuses, tell. Decisions are the operator's and `job`'s.

mod judge;

use std::collections::BTreeSet;
use std::time::Duration;

use cllm_crds::{CllmModelStatus, CllmTrainingStatus};
use cllm_operator::Images;
use cllm_operator::model::{self, Replica, Resolution};
use cllm_operator::training::{self, Observed};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::LocalError;
use super::executor::Executor;
use super::job::End;
use super::launch::{Host, PortChoice};
use super::plan::Plan;
use super::reporter::{Reporter, Snapshot};
use super::servers::{ServerFailure, Servers};
use super::state::{State, TrainingState, Workdir};
use super::table::{model_row, training_row};
use crate::validated::{CheckedModel, CheckedTraining};

/// How often the processes are asked.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a `/status` page is waited for.
const PAGE_TIMEOUT: Duration = Duration::from_millis(400);

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Something is still to be done.
    Working,
    /// Everything is trained and every model answers.
    Ready,
}

/// One run of `cllm up`.
pub(super) struct Session {
    plan: Plan,
    workdir: Workdir,
    state: State,
    executor: Executor,
    servers: Servers,
    server_failure: Option<ServerFailure>,
    http_port: PortChoice,
    client: reqwest::Client,
    reporter: Reporter,
    announced: BTreeSet<String>,
}

impl Session {
    /// Takes up what earlier runs in the folder have left; starts nothing yet. The port is that of the first model.
    pub(super) fn new(
        plan: Plan,
        host: Host,
        workdir: Workdir,
        http_port: PortChoice,
        reporter: Reporter,
    ) -> Result<Self, LocalError> {
        let state = workdir.load()?;
        let client = reqwest::Client::builder().timeout(PAGE_TIMEOUT).build().unwrap_or_default();
        let mut session = Self {
            executor: Executor::new(host.clone()),
            servers: Servers::new(host),
            plan,
            workdir,
            state,
            server_failure: None,
            http_port,
            client,
            reporter,
            announced: BTreeSet::new(),
        };
        session.take_up()?;
        for note in &session.plan.notes {
            session.reporter.note(note);
        }
        Ok(session)
    }

    /// Statuses and Jobs of earlier runs, as far as they belong to the resources as they are written now.
    fn take_up(&mut self) -> Result<(), LocalError> {
        for training in &mut self.plan.trainings {
            let spec = serde_json::to_value(&training.resource.spec).unwrap_or_default();
            let known = self.state.trainings.get(&training.resource.name_any()).filter(|known| known.spec == spec);
            training.resource.status = known.map(|known| known.status.clone());
            let output = training.resource.status.as_ref().and_then(|status| status.output.as_ref());
            if let Some(path) = output.and_then(|output| self.plan.claims.path_of(&output.uri))
                && !path.exists()
            {
                return Err(LocalError::Gone { object: judge::name_of(&training.place), path });
            }
            for staged in training::render(&training.valid).jobs {
                let earlier = self.state.jobs.get(staged.job.metadata.name.as_deref().unwrap_or_default());
                let has_ended = earlier.is_some_and(|earlier| earlier.record.end == Some(End::Complete));
                if earlier.is_some() && (has_ended || !training.resource.spec.suspend) {
                    self.executor.submit(staged.job, earlier);
                }
            }
        }
        Ok(())
    }

    /// Works until everything is ready or something fails for good; the caller stops the processes.
    pub(super) async fn work(&mut self) -> Result<(), LocalError> {
        loop {
            if self.step().await? == Standing::Ready {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Keeps the models serving; returns only with an error.
    pub(super) async fn serve(&mut self) -> Result<std::convert::Infallible, LocalError> {
        loop {
            self.wait().await?;
            self.step().await?;
        }
    }

    /// Whether there is something to serve.
    pub(super) fn has_models(&self) -> bool {
        self.plan.models.iter().any(|model| model.valid.replicas() > 0)
    }

    /// Tells something in words.
    pub(super) fn note(&mut self, text: &str) {
        self.reporter.note(text);
    }

    /// Until a process ends or it is time to look again.
    async fn wait(&mut self) -> Result<(), LocalError> {
        tokio::select! {
            end = self.executor.next_end() => {
                self.executor.enter(end, &now(), false);
                self.save()?;
            }
            end = self.servers.next_end() => {
                self.server_failure = self.servers.enter(end);
            }
            () = tokio::time::sleep(PERIOD) => {}
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<Standing, LocalError> {
        let before = self.stages();
        self.observe_trainings().await?;
        self.executor.advance(&now())?;
        self.observe_models().await?;
        self.servers.advance()?;
        let snapshots: Vec<Snapshot> = self.snapshots();
        self.reporter.update(&snapshots);
        if self.stages() != before {
            self.save()?;
        }
        self.judge()
    }

    fn stages(&self) -> Vec<Option<cllm_crds::TrainingStage>> {
        self.plan
            .trainings
            .iter()
            .map(|training| training.resource.status.as_ref().and_then(|status| status.stage))
            .collect()
    }

    async fn observe_trainings(&mut self) -> Result<(), LocalError> {
        let images = Images::of_this_version();
        for training in &mut self.plan.trainings {
            // what the status says is an input of validation: a training that has ended stays so
            training.valid = training::validate(&training.resource, &images)
                .map_err(|error| LocalError::Failed(format!("{}: {error}", training.place)))?;
            let jobs = job_names(training);
            let mut observed = observe(&self.executor, &jobs, &self.client).await;
            let due = training::due(&training.valid, &observed);
            if !due.is_empty() {
                for job in due {
                    let earlier = self.state.jobs.get(job.metadata.name.as_deref().unwrap_or_default());
                    self.executor.submit(job, earlier);
                }
                observed = observe(&self.executor, &jobs, &self.client).await;
            }
            let previous = training.resource.status.clone().unwrap_or_default();
            let status = training::status(&training.valid, &observed, &previous, Timestamp::now());
            training.resource.status = Some(status);
        }
        Ok(())
    }

    async fn observe_models(&mut self) -> Result<(), LocalError> {
        let images = Images::of_this_version();
        for (index, model) in self.plan.models.iter_mut().enumerate() {
            model.valid = model::validate(&model.resource, &images)
                .map_err(|error| LocalError::Failed(format!("{}: {error}", model.place)))?;
            let name = model.resource.name_any();
            let replica = Replica {
                template: self.servers.template(&name),
                page: self.servers.page(&name, &self.client).await,
                refusal: None,
            };
            let trainings: Vec<_> = self.plan.trainings.iter().map(|training| training.resource.clone()).collect();
            let decision = model::decide(&model.valid, &trainings, std::slice::from_ref(&replica));
            if let Resolution::Resolved(checkpoint) = &decision.resolution
                && model.valid.replicas() > 0
            {
                let deployment = model::render(&model.valid, checkpoint).deployment;
                self.servers.submit(&name, deployment, if index == 0 { self.http_port } else { PortChoice::Free });
            }
            let observed = model::Observed {
                deployment: self.servers.observe(&name),
                autoscaler: None,
                metrics_api: model::MetricsApi::default(),
                replicas: vec![replica],
                failures: Vec::new(),
                claims: Vec::new(),
            };
            let previous = model.resource.status.clone().unwrap_or_default();
            let mut status = model::status(&model.valid, &decision, &observed, &previous, Timestamp::now());
            status.url = self.servers.http_port(&name).map(|port| format!("http://127.0.0.1:{port}"));
            model.resource.status = Some(status);
        }
        Ok(())
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        let trainings = self.plan.trainings.iter().map(|training| {
            let (name, status) = (training.resource.name_any(), training_status(training));
            let row = training_row(&name, &status);
            Snapshot { kind: "CllmTraining", name, status: serde_json::to_value(&status).unwrap_or_default(), row }
        });
        let models = self.plan.models.iter().map(|model| {
            let (name, status) = (model.resource.name_any(), model_status(model));
            let row = model_row(&name, &status);
            Snapshot { kind: "CllmModel", name, status: serde_json::to_value(&status).unwrap_or_default(), row }
        });
        trainings.chain(models).collect()
    }

    /// Writes what is done to `state.json`.
    fn save(&mut self) -> Result<(), LocalError> {
        for (name, job) in self.executor.states() {
            self.state.jobs.insert(name.clone(), job.clone());
        }
        for training in &self.plan.trainings {
            let spec = serde_json::to_value(&training.resource.spec).unwrap_or_default();
            let known = TrainingState { spec, status: training_status(training) };
            self.state.trainings.insert(training.resource.name_any(), known);
        }
        self.workdir.save(&self.state)
    }

    /// Ends all processes: SIGTERM, and SIGKILL when their grace is over or `hurry` resolves. What they finished is kept.
    pub(super) async fn stop(&mut self, hurry: impl Future<Output = ()>) -> Result<(), LocalError> {
        self.executor.stop();
        self.servers.stop();
        let mut hurry = Some(std::pin::pin!(hurry));
        while !(self.executor.is_idle() && self.servers.is_idle()) {
            let hurried = async {
                match &mut hurry {
                    Some(hurry) => hurry.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                end = self.executor.next_end() => self.executor.enter(end, &now(), true),
                end = self.servers.next_end() => {
                    self.servers.enter(end);
                }
                () = hurried => {
                    hurry = None;
                    self.executor.kill();
                    self.servers.kill();
                }
            }
        }
        self.save()
    }
}

async fn observe(executor: &Executor, jobs: &BTreeSet<String>, client: &reqwest::Client) -> Observed {
    Observed {
        jobs: executor.observe(jobs),
        messages: executor.messages(jobs),
        page: training::together(executor.pages(jobs, client).await),
        failures: Vec::new(),
        claims: Vec::new(),
    }
}

fn job_names(training: &CheckedTraining) -> BTreeSet<String> {
    let staged = training::render(&training.valid).jobs.into_iter().map(|staged| staged.job);
    staged.chain(training::report(&training.valid)).filter_map(|job| job.metadata.name).collect()
}

fn training_status(training: &CheckedTraining) -> CllmTrainingStatus {
    training.resource.status.clone().unwrap_or_default()
}

fn model_status(model: &CheckedModel) -> CllmModelStatus {
    model.resource.status.clone().unwrap_or_default()
}

fn now() -> Time {
    Time(Timestamp::now())
}
