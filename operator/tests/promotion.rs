//! Which checkpoint is served: each test tells a story to a model that is reconciled step by step, with nothing kept between two steps
//! but the resource and its status, as if the operator were restarted at each.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

mod common;

use cllm_crds::status_page::{GateVerdict, MeasuredSpeedup, ServerStatus};
use cllm_crds::{CllmModel, CllmModelStatus, CllmTraining, ServedModel};
use cllm_operator::model::{Observed, Replica, Resolution, ValidModel, decide, render, status, validate};
use common::{at, fixture, images, with};
use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::{Value, json};

fn digest(letter: &str) -> String {
    format!("sha256:{}", letter.repeat(64))
}

fn uri(letter: &str) -> String {
    format!("pvc://models/text2sql/{letter}")
}

/// A training whose result has that letter, which completed in that second.
fn training(name: &str, letter: &str, second: i64) -> CllmTraining {
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
fn failed(name: &str, letter: &str, second: i64) -> CllmTraining {
    let mut training = training(name, letter, second);
    let conditions = json!([condition("Complete", "False", "GateFailed"), condition("Failed", "True", "GateFailed")]);
    training.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
    training
}

/// It has not ended.
fn running(name: &str) -> CllmTraining {
    let resource = with(fixture("training_minimal"), "/metadata/name", json!(name));
    serde_json::from_value(with(resource, "/status", json!({"stage": "Training", "conditions": []}))).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// What the Pods of one checkpoint do when they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
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
struct Story {
    model: CllmModel,
    trainings: Vec<CllmTraining>,
    second: i64,
    /// Replicas of earlier templates that still run.
    old: Vec<Replica>,
    rendered: Option<String>,
    replicas: Vec<Replica>,
}

const BLOCK: Fate = Fate::Block("1.10");
const ANSWER: Fate = Fate::Answer("2.00");

impl Story {
    fn new(spec_model: Value, gates: Value) -> Self {
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
    fn follower() -> Self {
        Self::new(json!({"trainingRef": {"name": "text2sql"}}), json!({"minSpeedup": "1.5", "onFailure": "Block"}))
    }

    fn valid(&self) -> ValidModel {
        validate(&self.model, &images()).unwrap()
    }

    /// The letter of what is served.
    fn served(&self) -> String {
        let Some(arguments) = &self.rendered else { return String::new() };
        arguments.rsplit('/').next().unwrap().to_owned()
    }

    /// One reconciliation: decide, render, observe, remember. The Pods are those of the step before.
    fn reconcile(&mut self) -> &mut Self {
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
    fn then(&mut self, fate: Fate) -> &mut Self {
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
    fn settle(&mut self) -> &mut Self {
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

    fn status(&self) -> CllmModelStatus {
        self.model.status.clone().unwrap_or_default()
    }

    fn known(&self) -> ServedModel {
        self.status().model.unwrap_or_default()
    }

    fn rejected(&self) -> Option<String> {
        self.known().rejected_digest
    }

    fn word(&self, type_: &str) -> String {
        let status = self.status();
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_);
        condition.map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
    }

    fn message(&self, type_: &str) -> String {
        let status = self.status();
        status.conditions.iter().find(|condition| condition.type_ == type_).unwrap().message.clone()
    }

    /// `served rejected Ready Stalled Degraded` in one line.
    fn line(&self) -> String {
        let letter = |digest: Option<String>| digest.map_or("-".to_owned(), |digest| digest[7..8].to_owned());
        let words = ["Ready", "Stalled", "Degraded"].map(|type_| self.word(type_));
        let served = Some(self.served()).filter(|served| !served.is_empty()).unwrap_or("-".to_owned());
        format!("{served} {} {}", letter(self.rejected()), words.join(" "))
    }

    fn spec(&mut self, pointer: &str, value: Value) -> &mut Self {
        let resource = serde_json::to_value(&self.model).unwrap();
        self.model = serde_json::from_value(with(resource, pointer, value)).unwrap();
        self
    }

    fn trained(&mut self, trainings: &[CllmTraining]) -> &mut Self {
        self.trainings = trainings.to_vec();
        self
    }
}

fn template(deployment: &k8s_openapi::api::apps::v1::Deployment) -> String {
    let metadata = deployment.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
    metadata.annotations.as_ref().unwrap()["cllm.dev/template"].clone()
}

fn replica(template: &str, digest: &str, fate: Fate) -> Replica {
    let page = |figure: &str, ready, strategy: &str| ServerStatus {
        served_name: "text2sql".to_owned(),
        digest: digest.to_owned(),
        parameters: 42,
        ready,
        effective_strategy: strategy.to_owned(),
        block_size: 16,
        requests_running: 0,
        requests_waiting: 0,
        capacity_tokens_per_second: None,
        utilization_percent: None,
        throughput: None,
        artifact: None,
        hardware: "test".to_owned(),
        speedup: Some(MeasuredSpeedup {
            over_own_autoregressive: figure.to_owned(),
            prompts: 8,
            prompts_from: "built-in".to_owned(),
            hardware: "two cores".to_owned(),
            measured_at: "2026-01-01T00:00:00Z".to_owned(),
            ..MeasuredSpeedup::default()
        }),
        gate: Some(GateVerdict { min_speedup: "1.5".to_owned(), passed: ready, blocked: !ready }),
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

const FINE: &str = "True/AsDeclared False/AsDeclared False/AsDeclared";

/// The result `a` is served and good.
fn serving() -> Story {
    let mut story = Story::follower();
    story.trained(&[training("text2sql", "a", 1)]).then(ANSWER);
    assert_eq!(story.line(), format!("a - {FINE}"));
    story
}

#[test]
fn a_new_digest_rolls_out_and_is_good_when_its_replicas_answer() {
    let mut story = serving();
    story.trained(&[training("text2sql", "b", 2)]).then(Fate::Load);
    assert_eq!(story.line(), "b - False/ReplicasNotReady False/ReplicasNotReady False/AsDeclared");
    assert_eq!(story.known().last_good.unwrap().uri, uri("a"), "not good yet");
    story.then(ANSWER);
    assert_eq!(story.line(), format!("b - {FINE}"));
    let good = story.known().last_good.unwrap();
    assert_eq!((good.uri, good.digest), (uri("b"), Some(digest("b"))));
}

#[test]
fn a_blocked_or_refused_result_is_rejected_and_the_last_good_one_is_served() {
    for (fate, reason, told) in [
        (
            BLOCK,
            "GateFailed",
            "1.10 times as fast as decoded autoregressively, measured on 8 prompts of built-in (two cores)",
        ),
        (Fate::Refuse, "CheckpointRefused", "it has another digest"),
    ] {
        let mut story = serving();
        story.trained(&[training("text2sql", "b", 2)]).then(fate);
        assert_eq!(story.line(), format!("a b True/AsDeclared False/AsDeclared True/{reason}"));
        for type_ in ["Ready", "Degraded"] {
            let message = story.message(type_);
            assert!(
                message.contains(told) && message.contains(&format!("{} is served instead", digest("a"))),
                "{message}"
            );
        }
        // It is not tried again, whatever is looked at in between.
        story.settle();
        assert_eq!(story.served(), "a");
        story.trained(&[running("text2sql")]).settle();
        assert_eq!(story.line(), format!("a b {FINE}"), "what is served stays while it trains again");
        story.trained(&[training("text2sql", "b", 3)]).settle();
        assert_eq!(
            story.line(),
            format!("a b True/AsDeclared False/AsDeclared True/{reason}"),
            "the same digest again"
        );
        // A second bad one, then a good one.
        story.trained(&[training("text2sql", "c", 4)]).then(fate);
        assert_eq!(story.line(), format!("a c True/AsDeclared False/AsDeclared True/{reason}"));
        story.trained(&[training("text2sql", "d", 5)]).then(ANSWER);
        assert_eq!(story.line(), format!("d - {FINE}"));
    }
}

#[test]
fn a_rejected_result_is_tried_again_when_the_spec_changes_but_for_replicas_and_pause() {
    let mut story = serving();
    story.trained(&[training("text2sql", "b", 2)]).then(BLOCK);
    story.spec("/spec/replicas", json!(1)).settle();
    story.spec("/spec/paused", json!(true)).settle();
    story.spec("/spec/paused", json!(false)).settle();
    assert_eq!((story.served(), story.rejected()), ("a".to_owned(), Some(digest("b"))));
    story.spec("/spec/gates/minSpeedup", json!("1.05")).reconcile();
    assert_eq!((story.served(), story.rejected()), ("b".to_owned(), None));
    story.then(ANSWER);
    assert_eq!(story.line(), format!("b - {FINE}"));
}

#[test]
fn what_replicas_of_an_earlier_spec_say_does_not_count() {
    let mut story = Story::follower();
    story.trained(&[training("text2sql", "a", 1)]).then(BLOCK);
    assert_eq!(story.line(), "a a False/GateFailed True/GateFailed True/GateFailed");
    story.old = story.replicas.clone();
    story.spec("/spec/resources", json!({"requests": {"cpu": "8"}})).reconcile();
    story.reconcile();
    assert_eq!(story.rejected(), None, "the new ones have not spoken");
    story.then(ANSWER);
    assert_eq!(story.line(), format!("a - {FINE}"));
}

#[test]
fn with_nothing_to_go_back_to_it_says_what_to_do_and_recovers_by_itself() {
    for (fate, reason, step) in [
        (BLOCK, "GateFailed", "lower spec.gates.minSpeedup, choose another onFailure, or serve another checkpoint."),
        (Fate::Refuse, "CheckpointRefused", "correct spec.model, or put the checkpoint back."),
    ] {
        let mut story = Story::follower();
        story.trained(&[training("text2sql", "a", 1)]).then(fate);
        assert_eq!(story.line(), format!("a a False/{reason} True/{reason} True/{reason}"));
        let message = story.message("Ready");
        assert!(
            message.contains("There is no earlier checkpoint to go back to") && message.ends_with(step),
            "{message}"
        );
        // The checkpoint was put back, and the kubelet started the server again: that is seen at once.
        let template = story.replicas[0].template.clone().unwrap();
        story.replicas = vec![replica(&template, &digest("a"), ANSWER)];
        story.reconcile();
        assert_eq!(story.line(), format!("a - {FINE}"));
        story.settle();
        assert_eq!(story.line(), format!("a - {FINE}"));
    }
}

#[test]
fn what_was_good_is_never_rejected() {
    let mut story = serving();
    story.spec("/spec/gates/minSpeedup", json!("9")).then(Fate::Block("2.00"));
    assert_eq!(story.line(), "a - False/GateFailed True/GateFailed True/GateFailed");
    assert!(story.message("Ready").contains("It was served before"), "{}", story.message("Ready"));
    assert_eq!(story.known().last_good.unwrap().uri, uri("a"));
}

#[test]
fn one_replica_that_answers_keeps_another_from_having_it_rejected() {
    let mut story = serving();
    story.trained(&[training("text2sql", "b", 2)]).then(Fate::Load);
    let template = story.replicas[0].template.clone().unwrap();
    story.replicas = vec![replica(&template, &digest("b"), BLOCK), replica(&template, &digest("b"), ANSWER)];
    story.reconcile();
    assert_eq!((story.served(), story.rejected()), ("b".to_owned(), None));
}

#[test]
fn falling_back_and_warning_serve_what_missed_its_gate() {
    for (on_failure, fate, strategy, told) in [
        ("FallBackToAutoregressive", Fate::FallBack("1.10"), "Autoregressive", "answer one token a forward"),
        ("Warn", Fate::Answer("1.10"), "Jacobi", "answer all the same"),
    ] {
        let mut story = serving();
        story.spec("/spec/gates/onFailure", json!(on_failure)).then(ANSWER);
        story.trained(&[training("text2sql", "b", 2)]).then(fate);
        assert_eq!(story.line(), format!("b - {FINE}"));
        assert_eq!(story.word("SpeedupVerified"), "False/GateFailed");
        let message = story.message("SpeedupVerified");
        assert!(
            message.starts_with("1.10 times") && message.contains("asks for 1.5") && message.contains(told),
            "{message}"
        );
        assert_eq!(story.status().effective_strategy.as_deref(), Some(strategy));
        assert_eq!(story.status().speedup.unwrap().over_own_autoregressive, "1.10");
    }
}

#[test]
fn the_speed_up_of_the_slowest_replica_counts_and_belongs_to_its_checkpoint() {
    let mut story = serving();
    assert_eq!((story.word("SpeedupVerified"), story.status().speedup.unwrap().prompts), ("True/GatePassed".into(), 8));
    let template = story.replicas[0].template.clone().unwrap();
    story.replicas.push(replica(&template, &digest("a"), Fate::Answer("1.70")));
    story.reconcile();
    assert_eq!(story.status().speedup.unwrap().over_own_autoregressive, "1.70");
    // While none can be asked, it stays.
    story.replicas.clear();
    story.reconcile();
    assert_eq!(story.status().speedup.unwrap().over_own_autoregressive, "1.70");
    story.trained(&[training("text2sql", "b", 2)]).then(Fate::Load);
    assert_eq!((story.status().speedup, story.word("SpeedupVerified")), (None, "Unknown/NotEvaluated".to_owned()));
    story.then(ANSWER);
    story.spec("/spec/gates", Value::Null).then(ANSWER);
    assert_eq!(story.word("SpeedupVerified"), "True/NoGate");
    story.spec("/spec/decoding", json!({"strategy": "Autoregressive"})).then(ANSWER);
    assert_eq!((story.status().speedup, story.word("SpeedupVerified")), (None, String::new()));
}

#[test]
fn a_pin_goes_back_and_following_goes_on_without_it() {
    let mut story = serving();
    // `b` takes the place of `a` under the same name; `a` can be gone back to all the same.
    story.trained(&[training("text2sql", "b", 2)]).then(ANSWER);
    story.spec("/spec/model/digest", json!(digest("a"))).then(ANSWER);
    assert_eq!(story.line(), format!("a - {FINE}"));
    story.spec("/spec/model/digest", json!(digest("e"))).settle();
    assert_eq!(story.line(), "a - False/DigestNotKnown True/DigestNotKnown True/DigestNotKnown");
    let message = story.message("Ready");
    let known = format!("known: {}, {}", digest("a"), digest("b"));
    assert!(message.contains(&known) && message.contains("stays served"), "{message}");
    story.spec("/spec/model/digest", json!(digest("b"))).then(ANSWER);
    assert_eq!(story.line(), format!("b - {FINE}"));
    // Pinned, the training may go on.
    story.trained(&[training("text2sql", "c", 3)]).settle();
    assert_eq!(story.line(), format!("b - {FINE}"));
    story.trained(&[]).settle();
    assert_eq!(story.line(), format!("b - {FINE}"));
    story.spec("/spec/model/digest", Value::Null).trained(&[training("text2sql", "c", 3)]).then(ANSWER);
    assert_eq!(story.line(), format!("c - {FINE}"));
}

#[test]
fn a_pin_that_is_not_known_and_nothing_served_waits() {
    let mut story = Story::follower();
    story.spec("/spec/model/digest", json!(digest("a"))).trained(&[running("text2sql")]).reconcile();
    assert_eq!(story.line(), "- - False/DigestNotKnown False/DigestNotKnown False/AsDeclared");
    assert!(story.message("Ready").contains("known: none yet"), "{}", story.message("Ready"));
    story.trained(&[training("text2sql", "a", 1)]).then(ANSWER);
    assert_eq!(story.line(), format!("a - {FINE}"));
}

#[test]
fn a_pinned_result_that_is_rejected_leaves_the_spec_unmet() {
    let mut story = serving();
    story.trained(&[training("text2sql", "b", 2)]);
    story.spec("/spec/model/digest", json!(digest("b"))).then(BLOCK);
    assert_eq!(story.line(), "a b False/GateFailed True/GateFailed True/GateFailed");
    story.spec("/spec/model/digest", json!(digest("a"))).then(ANSWER);
    assert_eq!(story.line(), format!("a - {FINE}"));
}

#[test]
fn a_selector_follows_the_newest_result_whose_gates_passed() {
    let mut story = Story::new(
        json!({"trainingRef": {"selector": {"matchLabels": {"task": "sql"}}}}),
        json!({"minSpeedup": "1.5", "onFailure": "Block"}),
    );
    let waits = |story: &Story| (story.word("Ready"), story.message("Ready"));
    story.reconcile();
    let (word, message) = waits(&story);
    assert!(word == "False/TrainingNotFound" && message.contains("has the labels task=sql"), "{message}");
    story.trained(&[failed("x", "x", 9)]).reconcile();
    assert_eq!(waits(&story).0, "False/TrainingFailed");
    let mut other = training("other", "o", 99);
    other.metadata.labels = None;
    let mut unfinished = running("later");
    unfinished.metadata.labels = Some([("task".to_owned(), "sql".to_owned())].into());
    story.trained(&[failed("x", "x", 9), unfinished.clone(), other.clone()]).reconcile();
    assert_eq!(waits(&story).0, "False/TrainingNotComplete");
    let mut all = vec![failed("x", "x", 9), unfinished, other, training("one", "a", 5), training("two", "b", 3)];
    story.trained(&all).then(ANSWER);
    assert_eq!(story.line(), format!("a - {FINE}"), "the one that completed last");
    all.push(training("three", "c", 7));
    story.trained(&all).then(BLOCK);
    assert_eq!(story.line(), "a c True/AsDeclared False/AsDeclared True/GateFailed");
    // The rejected one is deleted: the newest is then the one that is served.
    all.pop();
    story.trained(&all).settle();
    assert_eq!(story.line(), format!("a - {FINE}"));
    // That one is deleted too: an older one is the newest.
    all.retain(|training| training.metadata.name.as_deref() != Some("one"));
    story.trained(&all).then(ANSWER);
    assert_eq!(story.line(), format!("b - {FINE}"));
}

#[test]
fn what_is_served_stays_served_while_its_training_is_gone_runs_or_fails() {
    let mut story = serving();
    for (trainings, told) in [
        (vec![], "does not exist"),
        (vec![running("text2sql")], "has no result yet (stage Training)"),
        (vec![failed("text2sql", "b", 2)], "failed, so it has nothing to serve"),
    ] {
        story.trained(&trainings).settle();
        assert_eq!(story.line(), format!("a - {FINE}"));
        let message = story.message("Ready");
        assert!(message.contains(told) && message.contains("stays served"), "{message}");
    }
}

#[test]
fn a_uri_is_gone_back_from_too() {
    let mut story = Story::new(json!({"uri": uri("a")}), json!({"minSpeedup": "1.5", "onFailure": "Block"}));
    story.then(ANSWER);
    assert_eq!(story.known().digest, Some(digest("a")), "as the replica says");
    story.spec("/spec/model/uri", json!(uri("b"))).then(BLOCK);
    assert_eq!(story.line(), "a b False/GateFailed True/GateFailed True/GateFailed");
    story.settle();
    story.spec("/spec/model/uri", json!(uri("c"))).then(Fate::Refuse);
    assert_eq!(story.line(), "a - False/CheckpointRefused True/CheckpointRefused True/CheckpointRefused");
    story.settle();
    assert_eq!(story.served(), "a", "not tried again, though nobody knows its digest");
    story.spec("/spec/model/uri", json!(uri("d"))).then(ANSWER);
    assert_eq!(story.line(), format!("d - {FINE}"));
}

#[test]
fn a_paused_model_is_left_as_it_is() {
    let mut story = serving();
    story.spec("/spec/paused", json!(true)).trained(&[training("text2sql", "b", 2)]).settle();
    assert_eq!(story.line(), "a - True/Paused False/Paused False/AsDeclared");
    assert_eq!(story.word("Reconciling"), "False/Paused");
    story.replicas.clear();
    story.reconcile();
    assert!(story.status().speedup.is_some(), "what was measured stays");
    story.spec("/spec/image", json!("other:1")).settle();
    assert_eq!(story.known().image, "registry.example/cllm-server:test");
    story.replicas.clear();
    story.reconcile();
    assert_eq!(story.word("Ready"), "False/Paused");
    story.spec("/spec/paused", json!(false)).then(ANSWER);
    assert_eq!(story.line(), format!("b - {FINE}"));
    let mut new = Story::follower();
    new.spec("/spec/paused", json!(true)).trained(&[training("text2sql", "a", 1)]).reconcile();
    assert_eq!(
        (new.line(), new.known()),
        ("- - False/Paused False/Paused False/AsDeclared".to_owned(), ServedModel::default())
    );
}
