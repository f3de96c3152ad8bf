//! The control of a claim that quality was kept: the same steps on the same answers, by cross-entropy alone.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{Workshop, digest, fail, history, loss, succeed};

fn control_command(workshop: &Workshop, name: &str, states: &str) -> Command {
    let mut command = workshop.train_command(name, &format!("{name}-state"), 10);
    command.arg("--consistency=None").arg(format!("--states={states}"));
    command
}

#[test]
fn a_control_learns_from_the_answers_and_from_no_state() {
    let workshop = Workshop::with_trajectories();
    succeed(&mut control_command(&workshop, "recorded", "Trajectories"));
    succeed(&mut control_command(&workshop, "made-up", "Noise"));
    succeed(&mut workshop.train_command("cllm", "cllm-state", 10));
    let digests = ["recorded", "made-up", "target", "cllm"].map(|name| digest(&workshop.path(name)));
    assert_eq!(digests[0], digests[1], "where states come from does not matter");
    assert_ne!(digests[0], digests[2], "it has learnt");
    assert_ne!(digests[0], digests[3], "and not what a CLLM learns");

    let read = |file: &str| fs::read(workshop.path("recorded").join(file)).unwrap();
    let history = history(&workshop.path("recorded"));
    for point in &history {
        let [consistency, autoregressive] = ["consistencyLoss", "autoregressiveLoss"].map(|name| loss(point, name));
        assert!(consistency.abs() < 1e-12 && autoregressive > 0.0, "{point:?}");
    }
    assert_eq!(history.len(), 10);
    let note: Value = serde_json::from_slice(&read("training.json")).unwrap();
    assert_eq!(note["consistency"], "None");

    let refused = fail(control_command(&workshop, "nothing", "Trajectories").arg("--autoregressive-weight=0"), 2);
    assert!(refused.contains("leaves nothing to learn"), "{refused}");
}
