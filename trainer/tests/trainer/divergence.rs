//! Runs that do not learn any more stop in words, and keep what was good.

use crate::support::{Workshop, fail, newest};

#[test]
fn gradients_that_are_not_finite_are_left_out_and_then_stop_the_run() {
    let workshop = Workshop::new();
    workshop.init();
    let mut command = workshop.adapt_command("target", "state", 40);
    let said = fail(command.args(["--learning-rate=1e30", "--checkpoint-every-steps=1"]), 2);
    assert_eq!(said.matches("is left out").count(), 3, "{said}");
    for part in ["not a finite number in 4 steps in a row", "lower --learning-rate", "another --state"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(newest(&workshop.path("state")).is_some(), "checkpoints are kept");
    assert!(!workshop.path("target").exists());
}

#[test]
fn a_loss_that_stays_far_above_its_lowest_stops_the_run_before_a_good_checkpoint_is_replaced() {
    let workshop = Workshop::new();
    workshop.init();
    let mut command = workshop.adapt_command("target", "state", 60);
    command.args(["--learning-rate=10", "--checkpoint-every-steps=1", "--divergence-steps=5"]);
    let said = fail(&mut command, 2);
    assert!(said.contains("the run diverges") && said.contains("for 5 steps in a row"), "{said}");
    let after = said.split("nats a token after step ").nth(1).unwrap();
    let stopped: u64 = after[..after.find(',').unwrap()].parse().unwrap();
    assert_eq!(newest(&workshop.path("state")), Some(stopped - 5), "the last one from before: {said}");
    assert!(!workshop.path("target").exists());
}
