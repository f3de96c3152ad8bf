//! Runs that are killed at seeded random moments, again and again: every start goes on from the newest checkpoint, and the end is that of
//! a run to which nothing happened.

mod life;
mod processes;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::life::{Life, Moment, Run};
use crate::support::{Workshop, assert_same, began_after, succeed};

const STEPS: u32 = 40;
/// Steps between two checkpoints; the last step is none of them.
const INTERVAL: u64 = 3;

/// Steps between two refreshes, which are sometimes at a checkpoint.
const REFRESH_INTERVAL: u64 = 4;

/// Kills of each kind of run, or `CLLM_CASES` times as many (`make kills`).
fn kills() -> usize {
    10 * std::env::var("CLLM_CASES").map_or(1, |factor| factor.parse::<usize>().unwrap())
}

fn with_interval(mut command: Command) -> Command {
    command.arg(format!("--checkpoint-every-steps={INTERVAL}"));
    command
}

/// Kills a run so many times and lets it end. `command` makes it for an output and a state folder.
fn survives(workshop: &Workshop, seed: u64, command: &dyn Fn(&str, &str) -> Command) {
    let [output, state] = ["killed", "killed-state"].map(|name| format!("{name}-{seed}"));
    let whole = format!("whole-{seed}");
    succeed(&mut command(&whole, &format!("{whole}-state")));
    let whole = workshop.path(&whole);
    let run =
        Run { command: &|| command(&output, &state), state: workshop.path(&state), output: workshop.path(&output) };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut lives, mut killed, mut inside) = (0, 0, 0);
    let mut told = 0;
    // a checkpoint may be complete before the signal comes: then it is aimed at another one
    while killed < kills() || inside < kills() / 10 {
        assert!(lives < 20 * kills(), "{killed} kills, {inside} inside a checkpoint, in {lives} starts");
        let moment = Moment::draw(lives, &mut random);
        let newest = run.newest();
        let life = run.live(moment, manner(lives));
        told = check_beginning(&life, moment, newest, told);
        lives += 1;
        match life.code {
            None => {
                killed += 1;
                inside += usize::from(run.is_writing_checkpoint());
            }
            code => {
                assert_eq!(code, Some(0), "{moment:?}: {}", life.said);
                check_end(&run, &whole);
                fs::remove_dir_all(&run.output).unwrap();
                told = 0;
            }
        }
    }
    let newest = run.newest();
    let life = run.live(Moment::Never, &[]);
    assert_eq!(life.code, Some(0), "{}", life.said);
    check_beginning(&life, Moment::Never, newest, told);
    check_end(&run, &whole);
}

/// Kills a run while it collects trajectories anew, then somewhere later, and so on, and lets it end.
fn survives_refreshes(workshop: &Workshop, command: &dyn Fn(&str, &str) -> Command) {
    let [output, state] = ["inside", "inside-state"];
    succeed(&mut command("outside", "outside-state"));
    let whole = workshop.path("outside");
    let run = Run { command: &|| command(output, state), state: workshop.path(state), output: workshop.path(output) };
    let (mut lives, mut inside) = (0, 0);
    while inside < kills() / 5 {
        assert!(lives < 20 * kills(), "{inside} kills inside a refresh in {lives} starts");
        let moment = if lives.is_multiple_of(2) {
            Moment::InsideRefresh
        } else {
            Moment::AfterSteps(REFRESH_INTERVAL + INTERVAL, Duration::ZERO)
        };
        let (left, newest) = (run.refresh_begun(), run.newest());
        let life = run.live(moment, manner(lives));
        check_beginning(&life, moment, newest, 0);
        lives += 1;
        if let Some(code) = life.code {
            assert_eq!(code, 0, "{moment:?}: {}", life.said);
            check_end(&run, &whole);
            fs::remove_dir_all(&run.output).unwrap();
        } else {
            inside += usize::from(run.has_begun_refresh_since(left));
        }
    }
    let life = run.live(Moment::Never, &[]);
    assert_eq!(life.code, Some(0), "{}", life.said);
    check_end(&run, &whole);
}

/// What decides over nothing, in turns.
fn manner(lives: usize) -> &'static [&'static str] {
    if lives.is_multiple_of(2) { &["--threads=1"] } else { &["--threads=2", "--gradient-checkpointing"] }
}

/// A start goes on from the newest checkpoint, and no more than an interval of what an earlier one told of is lost. Gives the last step
/// that the run told of.
#[track_caller]
fn check_beginning(life: &Life, moment: Moment, newest: u64, told: u64) -> u64 {
    assert!(!life.said.contains("skipping the state"), "no checkpoint is torn: {}", life.said);
    let Some(began) = began_after(&life.said) else { return told };
    assert_eq!(began, newest, "to be killed {moment:?}: {}", life.said);
    assert!(told <= began + INTERVAL, "step {told} was made, and it begins after {began}");
    began.max(life.told.unwrap_or(0))
}

/// The output is that of a run to which nothing happened, figures included, and nothing else is left.
fn check_end(run: &Run<'_>, whole: &Path) {
    assert_same(&run.output, whole);
    let left = fs::read_dir(&run.state).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), [".lock"]);
}

#[test]
fn an_adaptation_survives() {
    let workshop = Workshop::new();
    workshop.init();
    survives(&workshop, 1, &|output, state| with_interval(workshop.adapt_command(output, state, STEPS)));
}

#[test]
fn a_training_survives() {
    let workshop = Workshop::with_trajectories();
    let questions = fs::read_to_string(workshop.path("data.jsonl")).unwrap();
    let some: String = questions.lines().take(4).flat_map(|line| [line, "\n"]).collect();
    fs::write(workshop.path("held-out.jsonl"), some).unwrap();
    survives(&workshop, 2, &|output, state| {
        let mut command = with_interval(workshop.train_command(output, state, STEPS));
        // checks write the weights now and then, and decide which ones become the result
        command.arg(workshop.flag("validation", "held-out.jsonl"));
        command
    });
    survives(&workshop, 3, &|output, state| {
        let mut command = with_interval(workshop.train_command(output, state, STEPS));
        command.args(["--method=LoRA", "--lora-rank=4"]);
        command
    });
}

#[test]
fn a_training_that_refreshes_its_trajectories_survives() {
    let workshop = Workshop::with_trajectories();
    let refreshing = |output: &str, state: &str| {
        let mut command = with_interval(workshop.train_command(output, state, STEPS));
        command.arg(format!("--refresh-every-steps={REFRESH_INTERVAL}"));
        command
    };
    survives(&workshop, 5, &refreshing);
    survives(&workshop, 6, &|output, state| {
        let mut command = refreshing(output, state);
        command.args(["--method=LoRA", "--lora-rank=4", "--states=Mixed"]);
        command
    });
    survives_refreshes(&workshop, &refreshing);
}
