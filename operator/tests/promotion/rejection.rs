//! A checkpoint that is blocked or refused, what is served instead, and when it is tried again.

use serde_json::json;

use crate::story::{ANSWER, BLOCK, FINE, Fate, Story, digest, replica, running, serving, training, uri};

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
