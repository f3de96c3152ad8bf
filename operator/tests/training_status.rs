//! A training from its first reconciliation to its end: which Job is due, and what the status says meanwhile.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

mod common;

use cllm_crds::report::Quality;
use cllm_crds::status_page::JobStage::{self, Adapting, Collecting, Evaluating, Training};
use cllm_crds::{CllmTrainingSpec, CllmTrainingStatus, TrainingStage};
use cllm_operator::training::{Expiry, Observed, changes, due, expiry};
use common::{Executor, at, collected, error, evaluated, fixture, training, with, without_hash};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

fn ungated() -> Executor {
    Executor::new(training("training_minimal"))
}

/// With adaptation, four shards and gates, outside of a queue.
fn gated() -> Executor {
    let resource = with(fixture("training_full"), "/metadata/labels", json!({}));
    Executor::new(serde_json::from_value(resource).unwrap())
}

fn run_to(executor: &mut Executor, stage: JobStage) {
    for earlier in [Adapting, Collecting, Training, Evaluating] {
        executor.reconcile();
        if earlier == stage {
            return;
        }
        executor.succeed(earlier, vec![]);
    }
}

#[test]
fn a_training_goes_through_its_stages_one_at_a_time() {
    let mut executor = gated();
    assert_eq!(executor.reconcile().iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-adapt"]);
    assert_eq!(executor.status().stage, Some(TrainingStage::Adapting));
    assert!(executor.reconcile().is_empty());

    executor.page(Adapting, 40);
    executor.reconcile();
    assert_eq!(executor.status().progress.unwrap().progress_percentage, 40);

    executor.succeed(Adapting, vec![]);
    assert_eq!(executor.reconcile().iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-collect"]);
    assert_eq!(executor.status().stage, Some(TrainingStage::Collecting));
    assert_eq!(executor.status().progress, None, "the figures of one stage say nothing about the next");

    executor.succeed_in_part(Collecting, 2);
    executor.page(Collecting, 50);
    executor.reconcile();
    assert_eq!(executor.status().progress.unwrap().progress_percentage, 62, "two shards of four, and half of one");

    executor.succeed(Collecting, vec![collected(10, 300, "1.5"), collected(20, 300, "1")]);
    assert_eq!(executor.reconcile().iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-train"]);
    let trajectories = executor.status().trajectories.unwrap();
    assert_eq!((trajectories.examples, trajectories.tokens, trajectories.dropped), (30, 600, 2));
    assert_eq!(trajectories.tokens_per_forward, "1.200", "600 tokens in 200 + 300 forwards");
    assert_eq!(trajectories.dropped_because.map(|because| (because.truncated, because.degenerate)), Some((2, 0)));
    assert_eq!(trajectories.tokens_per_second.as_deref(), Some("133.3"), "600 tokens in 3 + 1.5 seconds");

    executor.succeed(Training, vec![]);
    assert_eq!(executor.reconcile().iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-evaluate"]);
    executor.succeed(Evaluating, vec![evaluated("1.3", "2.00")]);
    assert!(executor.reconcile().is_empty());

    let status = executor.status();
    assert_eq!(status.stage, Some(TrainingStage::Succeeded));
    assert_eq!(status.progress.unwrap().progress_percentage, 100);
    assert_eq!(status.output.unwrap().digest, "sha256:abc");
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    assert_eq!(status.jobs.iter().map(|job| job.succeeded).collect::<Vec<_>>(), [1, 4, 1, 1]);
    insta::assert_snapshot!(executor.conditions().replace(' ', "\n"), @r"
    TrajectoriesCollected=True/StageSucceeded
    Trained=True/StageSucceeded
    SpeedupVerified=True/GatePassed
    QualityVerified=True/GatePassed
    Suspended=False/Resumed
    Degraded=False/AsDeclared
    StorageShared=Unknown/ClaimNotFound
    Complete=True/Succeeded
    Failed=False/Succeeded
    Reconciling=False/Succeeded
    Stalled=False/Succeeded
    Ready=True/Succeeded
    ");
}

#[test]
fn a_new_training_is_pending_and_a_running_one_is_reconciling() {
    let mut executor = ungated();
    let resource = with(fixture("training_minimal"), "/spec/suspend", json!(true));
    executor.training = serde_json::from_value(resource).unwrap();
    assert!(executor.reconcile().is_empty());
    assert_eq!(executor.status().stage, Some(TrainingStage::Pending));
    assert_eq!(executor.condition("Suspended").0, "True");
    assert_eq!(executor.condition("Ready").1, "Suspended");

    executor.training.spec.suspend = false;
    assert_eq!(executor.reconcile().len(), 1);
    assert_eq!(executor.condition("Suspended").0, "False");
    assert_eq!(executor.condition("Reconciling").0, "True");
    assert_eq!(executor.condition("Stalled").0, "False");
    assert_eq!(executor.condition("TrajectoriesCollected").1, "Running");
    assert_eq!(executor.condition("SpeedupVerified").0, "Unknown");
}

#[test]
fn a_missed_gate_is_a_failure_that_keeps_its_output() {
    for (speedup, drop, sentence) in [
        ("1.29", "0.5", "The speed-up over the target is 1.29; spec.evaluation.minSpeedup asks for at least 1.3."),
        ("2.0", "2.01", "The quality dropped by 2.01 points; spec.evaluation.maxQualityDrop allows 2."),
        ("unmeasurable", "-1", "The speed-up over the target is unmeasurable"),
    ] {
        let mut executor = gated();
        run_to(&mut executor, Evaluating);
        executor.succeed(Evaluating, vec![evaluated(speedup, drop)]);
        executor.reconcile();
        let (truth, reason, message) = executor.condition("Failed");
        assert_eq!((truth.as_str(), reason.as_str()), ("True", "GateFailed"));
        assert!(message.contains(sentence) && message.contains("never served"), "{message}");
        assert_eq!(executor.status().stage, Some(TrainingStage::Failed));
        assert!(executor.status().output.is_some());
        assert_eq!(executor.condition("Ready").0, "False");
    }
}

#[test]
fn without_references_the_gate_is_about_perplexity() {
    for (drop, reason) in [("2.00", "GatePassed"), ("2.01", "GateFailed"), ("inf", "GateFailed")] {
        let mut executor = gated();
        run_to(&mut executor, Evaluating);
        let mut words = evaluated("2.0", drop);
        words.quality = words.quality.map(|quality| Quality { metric: "Perplexity".to_owned(), ..quality });
        executor.succeed(Evaluating, vec![words]);
        executor.reconcile();
        let (_, found, message) = executor.condition("QualityVerified");
        let expected = format!(
            "The perplexity of the target's answers rose by {drop} %; spec.evaluation.maxQualityDrop allows 2."
        );
        assert_eq!((found.as_str(), message), (reason, expected));
    }
}

#[test]
fn without_a_gate_the_figures_are_only_reported() {
    let mut executor = ungated();
    for stage in [Collecting, Training] {
        executor.reconcile();
        executor.succeed(stage, vec![]);
    }
    executor.reconcile();
    executor.succeed(Evaluating, vec![evaluated("0.5", "50")]);
    executor.reconcile();
    assert_eq!(executor.condition("Complete").0, "True");
    assert_eq!(executor.condition("SpeedupVerified").1, "NoGate");
}

#[test]
fn a_failed_stage_says_why_in_the_words_of_its_last_pod() {
    let last =
        || vec![error(Training, "first"), error(Training, "the loss is not a number at step 12: lower learningRate")];
    for (job_reason, words, reason, message) in [
        (
            "BackoffLimitExceeded",
            last(),
            "StageFailed",
            "Training failed: the loss is not a number at step 12: lower learningRate",
        ),
        ("PodFailurePolicy", last(), "BadInput", "Training failed: the loss is not a number"),
        (
            "DeadlineExceeded",
            vec![],
            "DeadlineExceeded",
            "Training failed: Job has reached the specified backoff limit",
        ),
    ] {
        let mut executor = gated();
        run_to(&mut executor, Training);
        executor.fail(Training, job_reason, words);
        assert!(executor.reconcile().is_empty());
        let (truth, found, text) = executor.condition("Stalled");
        assert_eq!((truth.as_str(), found.as_str()), ("True", reason));
        assert!(text.contains(message), "{text}");
        assert_eq!(executor.condition("Trained").1, "StageFailed");
        assert_eq!(executor.condition("TrajectoriesCollected").0, "True");
    }
}

#[test]
fn a_job_that_waits_in_a_queue_is_queued() {
    let mut executor = Executor::new(training("training_full"));
    executor.reconcile();
    executor.is_suspended(Adapting, true);
    executor.reconcile();
    assert_eq!(executor.status().stage, Some(TrainingStage::Queued));
    assert_eq!(executor.condition("Reconciling").1, "Queued");
    assert!(changes(&executor.valid(), &executor.observed).is_empty(), "its queue decides over it");
}

#[test]
fn suspending_and_resuming_changes_the_running_job_only() {
    let mut executor = gated();
    executor.reconcile();
    let job = executor.job_name(Adapting);
    assert!(changes(&executor.valid(), &executor.observed).is_empty());

    executor.training.spec.suspend = true;
    assert_eq!(changes(&executor.valid(), &executor.observed), [(job.clone(), json!({"spec": {"suspend": true}}))]);
    executor.is_suspended(Adapting, true);
    assert!(changes(&executor.valid(), &executor.observed).is_empty());
    executor.reconcile();
    assert_eq!(executor.status().stage, Some(TrainingStage::Adapting));

    executor.training.spec.suspend = false;
    assert_eq!(changes(&executor.valid(), &executor.observed), [(job, json!({"spec": {"suspend": false}}))]);
}

#[test]
fn parallelism_follows_the_spec_while_collecting_and_with_it_how_often_pods_may_fail() {
    let mut executor = gated();
    run_to(&mut executor, Collecting);
    assert!(changes(&executor.valid(), &executor.observed).is_empty());
    executor.training.spec.trajectories.parallelism = 4;
    let (job, limit) = (executor.job_name(Collecting), 4 * executor.training.spec.backoff_limit);
    let spec = json!({"backoffLimit": limit, "parallelism": 4});
    assert_eq!(changes(&executor.valid(), &executor.observed), [(job, json!({"spec": spec}))]);
}

#[test]
fn several_processes_are_one_stage() {
    let mut executor = Executor::new(training("training_workers"));
    executor.reconcile();
    executor.succeed(Collecting, vec![]);
    executor.reconcile();
    let name = executor.job_name(Training);
    executor.page(Training, 40);
    executor.succeed_in_part(Training, 1);
    assert!(executor.reconcile().is_empty(), "one process has heard of the end, the others have not");
    let status = executor.status();
    assert_eq!(status.stage, Some(TrainingStage::Training));
    assert_eq!(status.progress.unwrap().progress_percentage, 40, "it is not divided by the processes");

    executor.training.spec.suspend = true;
    assert_eq!(changes(&executor.valid(), &executor.observed), [(name.clone(), json!({"spec": {"suspend": true}}))]);
    executor.training.spec.suspend = false;
    let job = executor.observed.jobs.iter_mut().find(|job| job.metadata.name.as_ref() == Some(&name)).unwrap();
    job.spec.as_mut().unwrap().parallelism = Some(1);
    assert_eq!(changes(&executor.valid(), &executor.observed), [(name, json!({"spec": {"parallelism": 4}}))]);

    executor.succeed(Training, vec![]);
    assert_eq!(executor.reconcile().iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-evaluate"]);
    executor.observed.jobs.clear();
    let created = executor.reconcile();
    assert_eq!(created.iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-evaluate"]);
    assert_eq!(executor.status().jobs.iter().map(|job| job.succeeded).collect::<Vec<_>>(), [1, 4, 0]);
}

#[test]
fn processes_that_share_a_volume_of_one_node_are_told_so() {
    let claim = |name: &str, mode: &str| {
        let claim = json!({"metadata": {"name": name}, "spec": {"accessModes": [mode]}});
        serde_json::from_value(claim).unwrap()
    };
    for (mode, status, reason) in [("ReadWriteOnce", "False", "OneNodeOnly"), ("ReadWriteMany", "True", "AsDeclared")] {
        let mut executor = Executor::new(training("training_workers"));
        executor.observed.claims = vec![claim("models", "ReadWriteMany"), claim("text2sql-training-workspace", mode)];
        executor.reconcile();
        let found = executor.condition("StorageShared");
        assert_eq!((found.0.as_str(), found.1.as_str()), (status, reason));
        assert_eq!(found.2.contains("spec.training.workers lets 4 Pods run at once"), status == "False", "{}", found.2);
    }
}

#[test]
fn what_people_take_away_from_a_job_is_put_back() {
    let mut executor = gated();
    run_to(&mut executor, Training);
    let [collecting, training] = [Collecting, Training].map(|stage| executor.job_name(stage));
    for job in &mut executor.observed.jobs {
        job.metadata.labels.as_mut().unwrap().remove("cllm.dev/training");
        job.spec.as_mut().unwrap().backoff_limit = Some(99);
        job.spec.as_mut().unwrap().ttl_seconds_after_finished = Some(1);
    }
    let changes = changes(&executor.valid(), &executor.observed);
    let labels = json!({"labels": {"cllm.dev/training": "text2sql"}});
    let of = |name: &str| changes.iter().find(|(job, _)| job == name).unwrap().1.clone();
    assert_eq!(of(&collecting), json!({"metadata": labels}), "what has ended is only kept recognizable");
    let spec = json!({"ttlSecondsAfterFinished": null, "backoffLimit": executor.training.spec.backoff_limit});
    assert_eq!(of(&training), json!({"metadata": labels, "spec": spec}));
}

#[test]
fn a_summary_that_was_missed_is_read_again_by_a_job() {
    let mut executor = gated();
    run_to(&mut executor, Evaluating);
    executor.succeed(Evaluating, vec![]);
    let created = executor.reconcile();
    assert_eq!(created.iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-report"]);
    assert_eq!(executor.status().stage, Some(TrainingStage::Evaluating));
    assert!(executor.reconcile().is_empty(), "one such Job is enough");
    executor.observed.messages.insert(created[0].clone(), vec![evaluated("1.3", "2.00")]);
    assert!(executor.reconcile().is_empty());
    assert_eq!(executor.status().stage, Some(TrainingStage::Succeeded));
    assert_eq!(executor.status().output.unwrap().digest, "sha256:abc");
    assert_eq!(executor.status().jobs.len(), 4, "it is no stage");
}

#[test]
fn a_report_that_cannot_be_read_again_is_a_failure_that_says_where_it_lies() {
    let mut executor = gated();
    run_to(&mut executor, Evaluating);
    executor.succeed(Evaluating, vec![]);
    let report = executor.reconcile().remove(0);
    let job = executor.observed.jobs.iter_mut().find(|job| job.metadata.name.as_ref() == Some(&report)).unwrap();
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "message": "it took too long"}]});
    job.status = Some(serde_json::from_value(failed).unwrap());
    executor.reconcile();
    let (truth, reason, message) = executor.condition("Failed");
    assert_eq!((truth.as_str(), reason.as_str()), ("True", "ReportLost"));
    assert!(
        message.contains("did not help: it took too long. report.json") && message.contains("pvc://models/text2sql")
    );
}

#[test]
fn a_job_that_was_made_and_not_recorded_is_the_stage_also_for_a_newer_operator() {
    let resource = with(fixture("training_minimal"), "/metadata/uid", json!("1"));
    let mut executor = Executor::new(serde_json::from_value(resource).unwrap());
    executor.reconcile();
    executor.training.status = None;
    let mut older = executor.observed.jobs.remove(0);
    older.metadata.name = Some("text2sql-collect-0ther1".to_owned());
    let mut valid = executor.valid();
    valid.remember(std::slice::from_ref(&older));
    executor.observed.jobs.push(older);
    assert!(due(&valid, &executor.observed).is_empty(), "a second Job");
}

#[test]
fn what_is_left_of_a_training_is_deleted_when_its_time_is_over() {
    let spec = |ttl| CllmTrainingSpec { ttl_seconds_after_finished: ttl, ..training("training_minimal").spec };
    let ended = CllmTrainingStatus { completion_time: Some(Time(at(100))), ..CllmTrainingStatus::default() };
    assert_eq!(expiry(&spec(None), &ended, at(1_000_000)), Expiry::Never);
    assert_eq!(expiry(&spec(Some(60)), &CllmTrainingStatus::default(), at(1_000_000)), Expiry::Never);
    assert_eq!(expiry(&spec(Some(60)), &ended, at(130)), Expiry::In(Duration::from_secs(30)));
    assert_eq!(expiry(&spec(Some(60)), &ended, at(160)), Expiry::Now);
    assert_eq!(expiry(&spec(Some(0)), &ended, at(100)), Expiry::Now);
}

#[test]
fn a_job_that_was_deleted_is_made_again_unless_it_had_ended_well() {
    let mut executor = gated();
    run_to(&mut executor, Training);
    executor.observed.jobs.clear();
    let created = executor.reconcile();
    assert_eq!(created.iter().map(|name| without_hash(name)).collect::<Vec<_>>(), ["text2sql-train"]);
    assert_eq!(executor.status().jobs.len(), 3, "what is gone is remembered");
}

#[test]
fn reconciling_twice_changes_nothing() {
    let mut executor = gated();
    run_to(&mut executor, Training);
    executor.page(Training, 10);
    executor.reconcile();
    let before = executor.status();
    assert!(executor.reconcile().is_empty());
    assert_eq!(executor.status(), before);
}

/// What may become of the Jobs between two reconciliations.
#[derive(Clone, Copy, Debug)]
enum Event {
    Succeed,
    Fail,
    Delete,
    Suspend(bool),
    Nothing,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Succeed),
        1 => Just(Event::Fail),
        2 => Just(Event::Delete),
        1 => any::<bool>().prop_map(Event::Suspend),
        2 => Just(Event::Nothing),
    ];
    prop::collection::vec(event, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_is_never_more_than_one_stage_due_and_none_after_the_end(events in events()) {
        let mut executor = gated();
        let mut ended = None;
        for event in events {
            let valid = executor.valid();
            let is_running = |observed: &Observed| observed.jobs.iter().any(|job| job.status.is_none());
            let was_running = is_running(&executor.observed);
            let created = executor.reconcile();
            prop_assert!(created.len() <= 1);
            prop_assert!(!was_running || created.is_empty(), "a stage was started beside a running one");
            prop_assert!(created.is_empty() || !valid_is_suspended(&executor), "a suspended training started a stage");
            prop_assert!(due(&executor.valid(), &executor.observed).is_empty(), "what is due was created");
            if let Some(status) = &ended {
                prop_assert!(created.is_empty(), "a terminal training ran again");
                prop_assert_eq!(status, &executor.status());
            }
            if executor.status().completion_time.is_some() {
                ended.get_or_insert_with(|| executor.status());
            }
            drop(valid);
            apply(&mut executor, event);
        }
    }
}

fn valid_is_suspended(executor: &Executor) -> bool {
    executor.training.spec.suspend
}

fn apply(executor: &mut Executor, event: Event) {
    let running = [Adapting, Collecting, Training, Evaluating].into_iter().find(|&stage| {
        let name = executor.job_name(stage);
        executor.observed.jobs.iter().any(|job| job.metadata.name.as_ref() == Some(&name) && job.status.is_none())
    });
    match (event, running) {
        (Event::Succeed, Some(Evaluating)) => executor.succeed(Evaluating, vec![evaluated("2", "0")]),
        (Event::Succeed, Some(stage)) => executor.succeed(stage, vec![]),
        (Event::Fail, Some(stage)) => executor.fail(stage, "BackoffLimitExceeded", vec![]),
        (Event::Delete, _) => executor.observed.jobs.clear(),
        (Event::Suspend(suspend), _) => executor.training.spec.suspend = suspend,
        (Event::Succeed | Event::Fail, None) | (Event::Nothing, _) => {}
    }
}
