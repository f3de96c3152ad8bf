//! What the tests of the pure half share: resources from YAML, Jobs as an executor reports them, last words.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it; in tests a panic is a failure")]

use cllm_crds::report::{Quality, Speedup};
use cllm_crds::status_page::{
    Dropped, JobStage, Output, Progress, ServerStatus, TerminationMessage, TrainerStatus, Trajectories,
};
use cllm_crds::{CllmModel, CllmTraining, CllmTrainingStatus};
use cllm_operator::Images;
use cllm_operator::training::{Observed, ValidTraining, due, render, status, validate};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// Images that no version of the operator changes.
pub(crate) fn images() -> Images {
    Images {
        server: "registry.example/cllm-server:test".to_owned(),
        trainer: "registry.example/cllm-trainer:test".to_owned(),
    }
}

/// A file of `fixtures/`.
pub(crate) fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn training(name: &str) -> CllmTraining {
    serde_json::from_value(fixture(name)).unwrap()
}

pub(crate) fn model(name: &str) -> CllmModel {
    serde_json::from_value(fixture(name)).unwrap()
}

/// A fixture with one value set (`null` removes it) at a JSON pointer.
pub(crate) fn with(fixture: Value, pointer: &str, value: Value) -> Value {
    let mut changed = fixture;
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut place = &mut changed;
    for part in parent.split('/').skip(1) {
        place = place.as_object_mut().unwrap().entry(part).or_insert_with(|| Value::Object(serde_json::Map::default()));
    }
    let fields = place.as_object_mut().unwrap();
    if value.is_null() {
        fields.remove(key)
    } else {
        fields.insert(key.to_owned(), value)
    };
    changed
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A server that answers with that checkpoint, and has measured nothing.
pub(crate) fn answering(digest: &str) -> ServerStatus {
    ServerStatus {
        served_name: "text2sql".to_owned(),
        digest: digest.to_owned(),
        parameters: 42,
        ready: true,
        effective_strategy: "Jacobi".to_owned(),
        block_size: 16,
        requests_running: 0,
        requests_waiting: 0,
        capacity_tokens_per_second: None,
        utilization_percent: None,
        artifact: None,
        throughput: None,
        hardware: "test".to_owned(),
        speedup: None,
        gate: None,
    }
}

/// An executor that runs what is due, as the tests tell it to.
pub(crate) struct Executor {
    pub(crate) training: CllmTraining,
    pub(crate) observed: Observed,
    second: i64,
}

impl Executor {
    pub(crate) fn new(training: CllmTraining) -> Self {
        Self { training, observed: Observed::default(), second: 0 }
    }

    pub(crate) fn valid(&self) -> ValidTraining {
        validate(&self.training, &images()).unwrap()
    }

    /// One reconciliation: creates what is due, derives the status, remembers it. Answers the names of the created Jobs.
    pub(crate) fn reconcile(&mut self) -> Vec<String> {
        self.second += 1;
        let valid = self.valid();
        let created = due(&valid, &self.observed);
        let names = created.iter().map(|job| job.metadata.name.clone().unwrap()).collect();
        self.observed.jobs.extend(created);
        let previous = self.status();
        self.training.status = Some(status(&valid, &self.observed, &previous, at(self.second)));
        names
    }

    pub(crate) fn status(&self) -> CllmTrainingStatus {
        self.training.status.clone().unwrap_or_default()
    }

    /// `type=status/reason` of every condition, in one line.
    pub(crate) fn conditions(&self) -> String {
        let conditions = self.status().conditions;
        let words =
            conditions.iter().map(|condition| format!("{}={}/{}", condition.type_, condition.status, condition.reason));
        words.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn condition(&self, type_: &str) -> (String, String, String) {
        let found = self.status().conditions.into_iter().find(|condition| condition.type_ == type_).unwrap();
        (found.status, found.reason, found.message)
    }

    fn job(&mut self, stage: JobStage) -> &mut Job {
        let name = self.job_name(stage);
        self.observed.jobs.iter_mut().find(|job| job.metadata.name.as_deref() == Some(&name)).unwrap()
    }

    pub(crate) fn job_name(&self, stage: JobStage) -> String {
        let jobs = render(&self.valid()).jobs;
        jobs.into_iter().find(|staged| staged.stage == stage).unwrap().job.metadata.name.unwrap()
    }

    /// Some shards of the stage's Job are done.
    pub(crate) fn succeed_in_part(&mut self, stage: JobStage, succeeded: i32) {
        self.job(stage).status =
            Some(JobStatus { succeeded: Some(succeeded), active: Some(1), ..JobStatus::default() });
    }

    /// The stage's Job ends well, and its Pods say this.
    pub(crate) fn succeed(&mut self, stage: JobStage, words: Vec<TerminationMessage>) {
        let ended = Time(at(self.second));
        let job = self.job(stage);
        let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(1);
        job.status = Some(JobStatus {
            succeeded: Some(completions),
            completion_time: Some(ended),
            conditions: Some(vec![condition(
                "Complete",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            )]),
            ..JobStatus::default()
        });
        let name = self.job_name(stage);
        self.observed.messages.insert(name, words);
        self.observed.page = None;
    }

    /// The stage's Job fails, and its Pods say this.
    pub(crate) fn fail(&mut self, stage: JobStage, reason: &str, words: Vec<TerminationMessage>) {
        self.job(stage).status = Some(JobStatus {
            failed: Some(1),
            conditions: Some(vec![condition("Failed", reason, "Job has reached the specified backoff limit")]),
            ..JobStatus::default()
        });
        let name = self.job_name(stage);
        self.observed.messages.insert(name, words);
        self.observed.page = None;
    }

    /// A Pod of that stage answers with that percentage.
    pub(crate) fn page(&mut self, stage: JobStage, percentage: u32) {
        let progress = Progress {
            progress_percentage: percentage,
            estimated_remaining_seconds: Some(60),
            metrics: Vec::new(),
            last_updated_time: at(self.second).to_string(),
        };
        self.observed.page = Some(TrainerStatus { stage, progress });
    }

    pub(crate) fn is_suspended(&mut self, stage: JobStage, is_suspended: bool) {
        self.job(stage).spec.as_mut().unwrap().suspend = Some(is_suspended);
    }
}

fn condition(type_: &str, reason: &str, message: &str) -> JobCondition {
    JobCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..JobCondition::default()
    }
}

fn silent(stage: JobStage) -> TerminationMessage {
    TerminationMessage { stage, error: None, trajectories: None, speedup: None, quality: None, output: None }
}

pub(crate) fn error(stage: JobStage, text: &str) -> TerminationMessage {
    TerminationMessage { error: Some(text.to_owned()), ..silent(stage) }
}

pub(crate) fn collected(examples: u64, tokens: u64, tokens_per_forward: &str) -> TerminationMessage {
    let trajectories = Trajectories {
        examples,
        blocks: 2 * examples,
        states: 10 * examples,
        tokens,
        dropped: 1,
        dropped_because: Some(Dropped { truncated: 1, ..Dropped::default() }),
        tokens_per_forward: tokens_per_forward.to_owned(),
        tokens_per_second: Some((10 * examples).to_string()),
    };
    TerminationMessage { trajectories: Some(trajectories), ..silent(JobStage::Collecting) }
}

pub(crate) fn evaluated(over_target: &str, drop: &str) -> TerminationMessage {
    TerminationMessage {
        speedup: Some(Speedup { over_target: over_target.to_owned(), ..Speedup::default() }),
        quality: Some(Quality { metric: "ExactMatch".to_owned(), drop: drop.to_owned(), ..Quality::default() }),
        output: Some(Output {
            uri: "pvc://models/text2sql/abc".to_owned(),
            digest: "sha256:abc".to_owned(),
            size_bytes: 7,
        }),
        ..silent(JobStage::Evaluating)
    }
}

/// The name of a Job without its hash.
pub(crate) fn without_hash(name: &str) -> &str {
    name.rsplit_once('-').unwrap().0
}
