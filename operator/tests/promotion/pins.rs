//! A digest in the spec.

use serde_json::{Value, json};

use crate::story::{ANSWER, BLOCK, FINE, Story, digest, running, serving, training};

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
