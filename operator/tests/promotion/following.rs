//! Trainings that are followed: what of them is served, and what stays served.

use cllm_crds::ServedModel;
use serde_json::json;

use crate::story::{ANSWER, BLOCK, FINE, Fate, Story, digest, failed, running, serving, training, uri};

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
