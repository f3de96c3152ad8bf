//! Runs of several processes of which one is killed, again and again: the others end, and all go on together.

use std::fs;
use std::process::Child;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::life::{Moment, Run};
use super::{INTERVAL, check_end, kills, with_interval};
use crate::distributed::{free_port, member, start};
use crate::support::{Workshop, began_after, said, succeed};

const STEPS: u32 = 60;
/// A run that is so near to its end is left alone: who loses another process there may be done already.
const LAST_STEPS: u64 = 20;

/// Starts all processes of a run. The first one tells how far it is at this port.
fn start_all(run: &Run<'_>, processes: usize, metrics_port: u16) -> Vec<Child> {
    let port = free_port();
    let process = |index| {
        let mut command = member((run.command)(), port, processes, index);
        command.arg("--join-timeout-seconds=60");
        if index == 0 {
            command.arg(format!("--metrics-port={metrics_port}"));
        }
        start(command)
    };
    (0..processes).map(process).collect()
}

/// Exit codes and logs in the order of the processes.
fn end_all(children: Vec<Child>) -> (Vec<Option<i32>>, Vec<String>) {
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    outputs.map(|output| (output.status.code(), said(&output))).unzip()
}

#[test]
fn processes_survive_each_other() {
    let workshop = Workshop::new();
    workshop.init();
    succeed(&mut workshop.adapt_command("whole", "whole-state", STEPS));
    let command = || with_interval(workshop.adapt_command("killed", "killed-state", STEPS));
    let run = Run { command: &command, state: workshop.path("killed-state"), output: workshop.path("killed") };
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut killed = 0;
    while killed < kills() {
        let processes = random.random_range(2..=3);
        let newest = run.newest();
        let moment = match Moment::draw(random.random_range(1..=4), &mut random) {
            Moment::AfterSteps(steps, _) | Moment::InsideCheckpoint(steps)
                if newest + steps + LAST_STEPS > u64::from(STEPS) =>
            {
                Moment::Never
            }
            moment => moment,
        };
        let metrics_port = free_port();
        let mut children = start_all(&run, processes, metrics_port);
        let told = run.wait_for(moment, &mut children[0], metrics_port);
        if matches!(moment, Moment::Never) {
            finish(&run, children, newest, &workshop);
            continue;
        }
        let victim = random.random_range(0..processes);
        children[victim].kill().unwrap();
        let (codes, said) = end_all(children);
        if run.output.exists() {
            // it was done before the signal came
            finish(&run, start_all(&run, processes, free_port()), newest, &workshop);
            continue;
        }
        killed += 1;
        let expected: Vec<_> = (0..processes).map(|index| (index != victim).then_some(75)).collect();
        assert_eq!(codes, expected, "{victim} of {processes} was killed {moment:?}: {said:#?}");
        assert_eq!(began_after(&said[0]), Some(newest), "{}", said[0]);
        // process 0 keeps what was done when it loses another one
        let lost = if victim == 0 { INTERVAL } else { 0 };
        assert!(told.unwrap_or(0) <= run.newest() + lost, "step {told:?} was made, and {} is kept", run.newest());
    }
    let newest = run.newest();
    let children = start_all(&run, 2, free_port());
    finish(&run, children, newest, &workshop);
}

/// Lets a run end, checks it, and makes room for the next one.
fn finish(run: &Run<'_>, children: Vec<Child>, newest: u64, workshop: &Workshop) {
    let (codes, said) = end_all(children);
    assert!(codes.iter().all(|code| *code == Some(0)), "{codes:?}: {said:#?}");
    assert!(began_after(&said[0]).is_none_or(|began| began == newest), "{}", said[0]);
    check_end(run, &workshop.path("whole"));
    fs::remove_dir_all(&run.output).unwrap();
}
