//! Trajectories that are collected anew with the present weights: what changes with them, and what does not.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use candle_core::Device;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::distributed::{end_all, free_port, start, start_all};
use crate::resume::wait_for_steps;
use crate::support::{Workshop, assert_same, digest, fail, history, loss, states, step_of, succeed};

const STEPS: u32 = 60;
/// Steps between two refreshes.
const EVERY: u64 = 4;

fn train(workshop: &Workshop, output: &str, every: u64) -> Command {
    let mut command = workshop.train_command(output, &format!("{output}-state"), STEPS);
    command.arg(format!("--refresh-every-steps={every}"));
    command
}

fn losses(workshop: &Workshop, output: &str, name: &str) -> Vec<f64> {
    let history = history(&workshop.path(output));
    assert_eq!(history.len(), STEPS as usize, "a point for every step of a short run");
    history.iter().map(|point| loss(point, name)).collect()
}

/// How often a run has collected anew.
fn refreshes(said: &str) -> usize {
    said.matches("are collected anew with the weights after step").count()
}

#[test]
fn the_states_follow_the_weights_and_the_answers_stay() {
    let workshop = Workshop::with_trajectories();
    succeed(&mut workshop.train_command("usual", "usual-state", STEPS));
    let said = succeed(&mut train(&workshop, "refreshed", EVERY));
    assert_eq!(refreshes(&said) as u64, (u64::from(STEPS) - 1) / EVERY, "{said}");
    let of_both = |name: &str| ["usual", "refreshed"].map(|output| losses(&workshop, output, name));
    let differs = |[usual, refreshed]: [Vec<f64>; 2]| {
        usual.iter().zip(&refreshed).position(|(usual, refreshed)| usual.to_bits() != refreshed.to_bits())
    };
    let first = EVERY as usize;
    assert_eq!(differs(of_both("consistencyLoss")), Some(first), "until then the states are those of the target");
    let [usual, refreshed] = of_both("autoregressiveLoss").map(|losses| losses[first]);
    assert!((usual - refreshed).abs() < 1e-4, "the same weights on the same answers: {usual} and {refreshed}");
    assert_ne!(digest(&workshop.path("usual")), digest(&workshop.path("refreshed")));
}

#[test]
fn it_is_a_setting_of_the_run() {
    let workshop = Workshop::with_trajectories();
    succeed(&mut workshop.train_command("usual", "usual-state", STEPS));
    assert_eq!(refreshes(&succeed(&mut train(&workshop, "off", 0))), 0);
    assert_same(&workshop.path("off"), &workshop.path("usual"));
    let note: Value = serde_json::from_slice(&fs::read(workshop.path("off").join("training.json")).unwrap()).unwrap();
    assert!(note.get("refresh_every_steps").is_none(), "{note}");

    stop(vec![start(train(&workshop, "stopped", EVERY))], &workshop.path("stopped-state"));
    for other in [EVERY + 1, 0] {
        let said = fail(&mut train(&workshop, "stopped", other), 2);
        assert!(said.contains("different: `refresh_every_steps`"), "{said}");
    }

    let said = fail(train(&workshop, "nothing", EVERY).arg("--states=Noise"), 2);
    assert!(said.contains("has no trajectories to collect anew"), "{said}");
    let control = |output: &str, every: u64| {
        let said = succeed(train(&workshop, output, every).arg("--consistency=None"));
        (refreshes(&said), digest(&workshop.path(output)))
    };
    assert_eq!(control("control", EVERY), control("control-usual", 0), "a control learns from no states");
}

#[test]
fn adapters_are_merged_for_it() {
    let workshop = Workshop::with_trajectories();
    let lora = |output: &str, every: u64| {
        let said = succeed(train(&workshop, output, every).args(["--method=LoRA", "--lora-rank=4"]));
        (refreshes(&said), digest(&workshop.path(output)))
    };
    let ((none, usual), (some, refreshed)) = (lora("usual", 0), lora("refreshed", EVERY));
    assert_eq!((none, some as u64), (0, (u64::from(STEPS) - 1) / EVERY));
    assert_ne!(usual, refreshed);
}

#[test]
fn a_run_that_is_stopped_goes_on_with_what_was_refreshed_on_any_number_of_processes() {
    let workshop = Workshop::with_trajectories();
    succeed(&mut train(&workshop, "whole", EVERY));
    let whole = workshop.path("whole");
    for (name, before, after) in [("alone", 1, 1), ("more", 1, 3), ("fewer", 2, 1)] {
        let (output, state) = (workshop.path(name), workshop.path(&format!("{name}-state")));
        let command = || train(&workshop, name, EVERY);
        stop(start_some(command, before), &state);
        let kept = states(&state);
        for path in &kept {
            let (step, is_there) = (step_of(path), holds_refreshed(path));
            assert_eq!(is_there, step > EVERY && !step.is_multiple_of(EVERY), "{name} after step {step}");
        }
        // between two refreshes it goes on from what is stored
        let newest = kept.last().unwrap();
        if step_of(newest).is_multiple_of(EVERY) {
            fs::remove_file(newest).unwrap();
        }
        let said = end_all(start_some(command, after), 0);
        assert!(said[0].contains("continuing after step"), "{name}: {}", said[0]);
        assert_same(&output, &whole);
    }
    end_all(start_all(|| train(&workshop, "three", EVERY), free_port(), 3), 0);
    assert_same(&workshop.path("three"), &whole);
}

/// Starts all processes of a run.
fn start_some(command: impl Fn() -> Command, processes: usize) -> Vec<Child> {
    if processes == 1 { vec![start(command())] } else { start_all(command, free_port(), processes) }
}

/// Stops a run once it has made some steps. All of its processes end for another start.
fn stop(mut children: Vec<Child>, state: &Path) {
    wait_for_steps(&mut children[0], state);
    kill(Pid::from_raw(i32::try_from(children[0].id()).unwrap()), Signal::SIGTERM).unwrap();
    end_all(children, 75);
}

fn holds_refreshed(state: &Path) -> bool {
    let tensors = candle_core::safetensors::load(state, &Device::Cpu).unwrap();
    tensors.keys().any(|name| name.starts_with("refreshed."))
}
