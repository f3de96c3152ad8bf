//! What keeps the answers: their tokens, or the distributions of the target.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{Workshop, digest, fail, history, loss, succeed};

const STEPS: u32 = 10;

fn train(workshop: &Workshop, name: &str, labels: &str) -> Command {
    let mut command = workshop.train_command(name, &format!("{name}-state"), STEPS);
    command.arg(format!("--labels={labels}"));
    command
}

fn losses(workshop: &Workshop, output: &str, name: &str) -> Vec<f64> {
    history(&workshop.path(output)).iter().map(|point| loss(point, name)).collect()
}

#[test]
fn distributions_of_the_target_are_no_loss_to_the_target_itself() {
    let workshop = Workshop::with_trajectories();
    succeed(&mut workshop.train_command("usual", "usual-state", STEPS));
    succeed(&mut train(&workshop, "tokens", "Tokens"));
    succeed(&mut train(&workshop, "distributions", "Distributions"));
    let digests = ["usual", "tokens", "distributions"].map(|name| digest(&workshop.path(name)));
    assert_eq!(digests[0], digests[1], "tokens are what is usual");
    assert_ne!(digests[0], digests[2]);

    let of = |name: &str| ["tokens", "distributions"].map(|output| losses(&workshop, output, name));
    let [tokens, distributions] = of("autoregressiveLoss");
    assert!(tokens[0] > 1e-3, "{tokens:?}");
    assert!(distributions[0].abs() < 1e-7, "the first step has the weights of the target: {distributions:?}");
    assert!(*distributions.last().unwrap() > 1e-4, "and the last one has others: {distributions:?}");
    let [tokens, distributions] = of("consistencyLoss");
    assert_eq!(tokens[0].to_bits(), distributions[0].to_bits(), "the states are the same");

    let note: Value = serde_json::from_slice(&fs::read(workshop.path("distributions/training.json")).unwrap()).unwrap();
    assert_eq!(note["labels"], "Distributions");
    let refused = fail(&mut train(&workshop, "distributions", "Tokens"), 2);
    assert!(refused.contains("labels"), "{refused}");
    let refused = fail(train(&workshop, "nothing", "Distributions").arg("--autoregressive-weight=0"), 2);
    assert!(refused.contains("give a weight above 0"), "{refused}");
}
