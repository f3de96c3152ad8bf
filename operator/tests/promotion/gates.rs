//! The measured speed-up: what misses its gate and is served all the same, and which figure counts.

use serde_json::{Value, json};

use crate::story::{ANSWER, FINE, Fate, digest, replica, serving, training};

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
