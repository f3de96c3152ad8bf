//! A model and what happens to it, for tests to tell.

use cllm_crds::status_page::{GateVerdict, MeasuredSpeedup, ServerStatus};
use cllm_crds::{CllmModel, CllmModelStatus, CllmTraining, ServedModel};
use cllm_operator::model::{Observed, Replica, Resolution, ValidModel, decide, render, status, validate};
use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::{Value, json};

use crate::common::{answering, at, fixture, images, with};

pub(crate) fn digest(letter: &str) -> String {
    format!("sha256:{}", letter.repeat(64))
}

pub(crate) fn uri(letter: &str) -> String {
    format!("pvc://models/text2sql/{letter}")
}

/// A training whose result has that letter, which completed in that second.
pub(crate) fn training(name: &str, letter: &str, second: i64) -> CllmTraining {
    let status = json!({
        "stage": "Succeeded",
        "completionTime": at(second).to_string(),
        "output": {"uri": uri(letter), "digest": digest(letter), "sizeBytes": 1},
        "conditions": [condition("Complete", "True", "Succeeded")],
    });
    let resource = with(fixture("training_minimal"), "/metadata/name", json!(name));
    let resource = with(resource, "/metadata/labels", json!({"task": "sql"}));
    serde_json::from_value(with(resource, "/status", status)).unwrap()
}

/// It ended without a result that may be served.
pub(crate) fn failed(name: &str, letter: &str, second: i64) -> CllmTraining {
    let mut training = training(name, letter, second);
    let conditions = json!([condition("Complete", "False", "GateFailed"), condition("Failed", "True", "GateFailed")]);
    training.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
    training
}

/// It has not ended.
pub(crate) fn running(name: &str) -> CllmTraining {
    let resource = with(fixture("training_minimal"), "/metadata/name", json!(name));
    serde_json::from_value(with(resource, "/status", json!({"stage": "Training", "conditions": []}))).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// What the Pods of one checkpoint do when they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They answer, with that speed-up.
    Answer(&'static str),
    /// They do not answer because of that speed-up.
    Block(&'static str),
    /// They fall back because of that speed-up.
    FallBack(&'static str),
    /// They end with exit code 2.
    Refuse,
    /// Nothing yet.
    Load,
}

/// A model, its trainings, and a cluster in which Pods are started and say what their fate is.
pub(crate) struct Story {
    model: CllmModel,
    trainings: Vec<CllmTraining>,
    second: i64,
    /// Replicas of earlier templates that still run.
    pub(crate) old: Vec<Replica>,
    rendered: Option<String>,
    pub(crate) replicas: Vec<Replica>,
}

pub(crate) const BLOCK: Fate = Fate::Block("1.10");
pub(crate) const ANSWER: Fate = Fate::Answer("2.00");

impl Story {
    pub(crate) fn new(spec_model: Value, gates: Value) -> Self {
        let resource = with(fixture("model_minimal"), "/spec/model", spec_model);
        let resource = with(resource, "/spec/gates", gates);
        Self {
            model: serde_json::from_value(resource).unwrap(),
            trainings: Vec::new(),
            second: 0,
            old: Vec::new(),
            rendered: None,
            replicas: Vec::new(),
        }
    }

    /// Follows the training `text2sql`, and blocks below 1.5.
    pub(crate) fn follower() -> Self {
        Self::new(json!({"trainingRef": {"name": "text2sql"}}), json!({"minSpeedup": "1.5", "onFailure": "Block"}))
    }

    fn valid(&self) -> ValidModel {
        validate(&self.model, &images()).unwrap()
    }

    /// The letter of what is served.
    pub(crate) fn served(&self) -> String {
        let Some(arguments) = &self.rendered else { return String::new() };
        arguments.rsplit('/').next().unwrap().to_owned()
    }

    /// One reconciliation: decide, render, observe, remember. The Pods are those of the step before.
    pub(crate) fn reconcile(&mut self) -> &mut Self {
        self.second += 1;
        let valid = self.valid();
        let replicas: Vec<_> = self.old.iter().chain(&self.replicas).cloned().collect();
        let decision = decide(&valid, &self.trainings, &replicas);
        let mut observed = Observed { replicas, ..Observed::default() };
        if let Resolution::Resolved(checkpoint) = &decision.resolution {
            let mut deployment = render(&valid, checkpoint).deployment;
            let container = &deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
            let argument = container.args.as_ref().unwrap()[0].clone();
            let template = template(&deployment);
            if self.replicas.iter().any(|replica| replica.template.as_ref() != Some(&template)) {
                self.replicas.clear();
            }
            let ready = self.replicas.iter().filter(|replica| replica.page.as_ref().is_some_and(|page| page.ready));
            let ready = i32::try_from(ready.count()).unwrap();
            deployment.status = Some(DeploymentStatus {
                replicas: Some(1),
                updated_replicas: Some(1),
                ready_replicas: Some(ready),
                ..DeploymentStatus::default()
            });
            observed.deployment = Some(deployment);
            self.rendered = Some(argument);
        }
        let next = status(&valid, &decision, &observed, &self.status(), at(self.second));
        // Through JSON, as the API server keeps it.
        self.model.status = serde_json::from_value(serde_json::to_value(next).unwrap()).unwrap();
        self
    }

    /// The Pods of what is rendered are started, and this becomes of them; then until nothing changes.
    pub(crate) fn then(&mut self, fate: Fate) -> &mut Self {
        self.reconcile();
        let valid = self.valid();
        let decision = decide(&valid, &self.trainings, &self.replicas);
        if let Resolution::Resolved(checkpoint) = &decision.resolution {
            let deployment = render(&valid, checkpoint).deployment;
            self.replicas = vec![replica(&template(&deployment), &digest(&self.served()), fate)];
        }
        self.settle()
    }

    /// What is gone back to answers as it did before.
    pub(crate) fn settle(&mut self) -> &mut Self {
        for _ in 0..3 {
            let before = self.served();
            self.reconcile();
            if self.served() != before && self.is_known_good() {
                let valid = self.valid();
                let decision = decide(&valid, &self.trainings, &[]);
                if let Resolution::Resolved(checkpoint) = &decision.resolution {
                    let deployment = render(&valid, checkpoint).deployment;
                    self.replicas = vec![replica(&template(&deployment), &digest(&self.served()), ANSWER)];
                }
            }
        }
        let known = self.model.status.clone();
        self.second -= 1;
        self.reconcile();
        assert_eq!(self.model.status, known, "the same again changes nothing");
        self
    }

    fn is_known_good(&self) -> bool {
        let good = self.known().last_good.map(|good| good.uri);
        good == Some(uri(&self.served()))
    }

    pub(crate) fn status(&self) -> CllmModelStatus {
        self.model.status.clone().unwrap_or_default()
    }

    pub(crate) fn known(&self) -> ServedModel {
        self.status().model.unwrap_or_default()
    }

    pub(crate) fn rejected(&self) -> Option<String> {
        self.known().rejected_digest
    }

    pub(crate) fn word(&self, type_: &str) -> String {
        let status = self.status();
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_);
        condition.map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
    }

    pub(crate) fn message(&self, type_: &str) -> String {
        let status = self.status();
        status.conditions.iter().find(|condition| condition.type_ == type_).unwrap().message.clone()
    }

    /// `served rejected Ready Stalled Degraded` in one line.
    pub(crate) fn line(&self) -> String {
        let letter = |digest: Option<String>| digest.map_or("-".to_owned(), |digest| digest[7..8].to_owned());
        let words = ["Ready", "Stalled", "Degraded"].map(|type_| self.word(type_));
        let served = Some(self.served()).filter(|served| !served.is_empty()).unwrap_or("-".to_owned());
        format!("{served} {} {}", letter(self.rejected()), words.join(" "))
    }

    pub(crate) fn spec(&mut self, pointer: &str, value: Value) -> &mut Self {
        let resource = serde_json::to_value(&self.model).unwrap();
        self.model = serde_json::from_value(with(resource, pointer, value)).unwrap();
        self
    }

    pub(crate) fn trained(&mut self, trainings: &[CllmTraining]) -> &mut Self {
        self.trainings = trainings.to_vec();
        self
    }
}

fn template(deployment: &k8s_openapi::api::apps::v1::Deployment) -> String {
    let metadata = deployment.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
    metadata.annotations.as_ref().unwrap()["cllm.dev/template"].clone()
}

pub(crate) fn replica(template: &str, digest: &str, fate: Fate) -> Replica {
    let page = |figure: &str, ready, strategy: &str| ServerStatus {
        ready,
        effective_strategy: strategy.to_owned(),
        speedup: Some(MeasuredSpeedup {
            over_own_autoregressive: figure.to_owned(),
            prompts: 8,
            prompts_from: "built-in".to_owned(),
            hardware: "two cores".to_owned(),
            measured_at: "2026-01-01T00:00:00Z".to_owned(),
            ..MeasuredSpeedup::default()
        }),
        gate: Some(GateVerdict { min_speedup: "1.5".to_owned(), passed: ready, blocked: !ready }),
        ..answering(digest)
    };
    let (page, refusal) = match fate {
        Fate::Answer(figure) => (Some(page(figure, true, "Jacobi")), None),
        Fate::FallBack(figure) => (Some(page(figure, true, "Autoregressive")), None),
        Fate::Block(figure) => (Some(page(figure, false, "Jacobi")), None),
        Fate::Refuse => (None, Some("the model cannot be loaded: it has another digest.".to_owned())),
        Fate::Load => (None, None),
    };
    Replica { template: Some(template.to_owned()), page, refusal }
}

pub(crate) const FINE: &str = "True/AsDeclared False/AsDeclared False/AsDeclared";

/// The result `a` is served and good.
pub(crate) fn serving() -> Story {
    let mut story = Story::follower();
    story.trained(&[training("text2sql", "a", 1)]).then(ANSWER);
    assert_eq!(story.line(), format!("a - {FINE}"));
    story
}
