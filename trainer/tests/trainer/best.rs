//! Which weights become the result, and that nothing that happens to a run changes the choice.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use candle_core::Device;
use cllm_trainer::history::Point;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::distributed::{end_all, free_port, start_all};
use crate::support::{Workshop, digest, fail, history, newest, states, succeed};

const STEPS: u32 = 200;
/// Of `adapt` with so many steps.
const FIRST_CHECK: u64 = 50;

/// With validation examples that say the same in other words: the better the words of the training are known, the less likely are these.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.init();
    let questions = fs::read_to_string(workshop.path("data.jsonl")).unwrap();
    let reworded = questions.replace("SELECT", "-").replace("FROM", "SELECT").replace('-', "FROM");
    fs::write(workshop.path("other.jsonl"), reworded).unwrap();
    workshop
}

fn adapt(workshop: &Workshop, output: &str, steps: u32) -> Command {
    let mut command = workshop.adapt_command(output, &format!("{output}-state"), steps);
    command.args([workshop.flag("validation", "other.jsonl"), "--checkpoint-every-steps=1".to_owned()]);
    command
}

fn figure(point: &Point, name: &str) -> Option<f64> {
    point.measured.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
}

fn kept(history: &[Point]) -> Option<u64> {
    let kept: Vec<u64> = history.iter().filter(|point| point.kept).map(|point| point.step).collect();
    assert!(kept.len() <= 1, "{kept:?}");
    kept.first().copied()
}

#[test]
fn the_weights_with_the_lowest_loss_on_validation_examples_become_the_result() {
    let workshop = workshop();
    let said = succeed(&mut adapt(&workshop, "best", STEPS));
    let points = history(&workshop.path("best"));
    let losses = || points.iter().filter_map(|point| Some((point.step, figure(point, "validationLoss")?)));
    assert_eq!(losses().count(), 4, "{points:?}");
    let (step, loss) = losses().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(kept(&points), Some(step));
    assert!(step < u64::from(STEPS), "in this test a better check than the last: {:?}", losses().collect::<Vec<_>>());
    assert!(said.contains(&format!("the weights after step {step} of {STEPS} become the result")), "{said}");
    // measured again, after a step that changes nothing
    let mut again = adapt(&workshop, "again", 1);
    succeed(again.args([workshop.flag("model", "best"), "--learning-rate=1e-12".to_owned()]));
    let found = figure(&history(&workshop.path("again"))[0], "validationLoss").unwrap();
    assert!((found - loss).abs() < 1e-5, "{found} instead of {loss}: other weights");
    succeed(adapt(&workshop, "last", STEPS).arg("--keep=Last"));
    assert_eq!(kept(&history(&workshop.path("last"))), None);
    assert_ne!(digest(&workshop.path("last")), digest(&workshop.path("best")));
    let other = fail(adapt(&workshop, "best", STEPS).arg("--keep=Last"), 2);
    assert!(other.contains("different: `keep`, `validation`"), "{other}");
}

#[test]
fn a_run_that_is_interrupted_after_its_best_check_ends_in_the_same_weights() {
    let workshop = workshop();
    succeed(&mut adapt(&workshop, "whole", STEPS));
    let whole = history(&workshop.path("whole"));
    for (name, signal, code) in [("killed", Signal::SIGKILL, None), ("terminated", Signal::SIGTERM, Some(75))] {
        let state = workshop.path(&format!("{name}-state"));
        let mut child = adapt(&workshop, name, STEPS).stderr(Stdio::null()).spawn().unwrap();
        wait_until(&mut child, || newest(&state).is_some_and(|step| step > FIRST_CHECK));
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{name}");
        let stored = candle_core::safetensors::load(states(&state).last().unwrap(), &Device::Cpu).unwrap();
        let of_best = stored.keys().filter(|name| name.starts_with("best.")).count();
        assert_eq!(4 * of_best, stored.len(), "the weights of the best check, the present ones and two moments");
        let said = succeed(&mut adapt(&workshop, name, STEPS));
        assert!(said.contains("continuing after step"), "{said}");
        assert_eq!(history(&workshop.path(name)), whole, "{name}");
        assert_eq!(digest(&workshop.path(name)), digest(&workshop.path("whole")), "{name}");
    }
}

fn wait_until(child: &mut Child, reached: impl Fn() -> bool) {
    while !reached() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_fastest_weights_that_keep_the_answers_become_the_result_on_any_number_of_processes() {
    let workshop = Workshop::with_trajectories();
    let train = |output: &str, rise: f64| {
        let mut command = workshop.train_command(output, &format!("{output}-state"), 24);
        command.args([workshop.flag("validation", "data.jsonl"), format!("--max-perplexity-rise={rise}")]);
        command
    };
    for (name, rise) in [("strict", 0.0), ("generous", 1000.0)] {
        succeed(&mut train(name, rise));
        let points = history(&workshop.path(name));
        let checks: Vec<(u64, f64, f64)> = points
            .iter()
            .filter_map(|point| {
                Some((point.step, figure(point, "tokensPerForward")?, figure(point, "perplexityOverTarget")?))
            })
            .collect();
        assert_eq!(checks.len(), 8, "{checks:?}");
        let mut agreements = points.iter().filter_map(|point| figure(point, "agreementWithTarget"));
        assert!(agreements.all(|percent| (0.0..=100.0).contains(&percent)), "{points:?}");
        assert_eq!(kept(&points), Some(expected(&checks, rise)), "{name}: {checks:?}");
    }
    let said = end_all(start_all(|| train("two", 1000.0), free_port(), 2), 0);
    assert!(said[0].contains("become the result") && !said[1].contains("become the result"), "{said:#?}");
    assert_eq!(history(&workshop.path("two")), history(&workshop.path("generous")));
    assert_eq!(digest(&workshop.path("two")), digest(&workshop.path("generous")));
}

/// The step to keep, of steps with tokens per forward and perplexity over the target's.
fn expected(checks: &[(u64, f64, f64)], rise: f64) -> u64 {
    let within: Vec<_> = checks.iter().filter(|check| check.2 <= 1.0 + rise / 100.0).collect();
    // of equal ones the first
    let fastest = within.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1));
    let nearest = checks.iter().min_by(|a, b| a.2.total_cmp(&b.2));
    fastest.map_or_else(|| nearest.unwrap().0, |check| check.0)
}
