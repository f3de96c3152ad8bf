//! Runs that are killed, interrupted or started twice end as if nothing had happened.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Workshop, digest, fail, succeed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const STEPS: u32 = 60;

fn workshop() -> Workshop {
    let workshop = Workshop::with_trajectories();
    succeed(&mut workshop.train_command("whole", "whole-state", STEPS));
    workshop
}

/// Starts a run and sends a signal once it has made some steps. Gives how it ended.
pub(crate) fn interrupt(command: &mut Command, state: &Path, signal: Signal) -> std::process::ExitStatus {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for_steps(&mut child, state);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    child.wait().unwrap()
}

/// Waits until the run in this state folder has made some steps.
pub(crate) fn wait_for_steps(child: &mut Child, state: &Path) {
    let late_enough = |name: String| name.starts_with("step-") && name.as_str() >= "step-00000005";
    loop {
        let names: Vec<_> = fs::read_dir(state).into_iter().flatten().flatten().collect();
        if names.iter().any(|entry| late_enough(entry.file_name().to_string_lossy().into_owned())) {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_interrupted_run_ends_in_the_same_weights() {
    let workshop = workshop();
    let whole = digest(&workshop.path("whole"));
    for (name, signal, code) in [("killed", Signal::SIGKILL, None), ("terminated", Signal::SIGTERM, Some(75))] {
        let state = format!("{name}-state");
        let command = || workshop.train_command(name, &state, STEPS);
        let status = interrupt(&mut command(), &workshop.path(&state), signal);
        assert_eq!(status.code(), code, "{name}");
        assert!(!workshop.path(name).exists());
        let said = succeed(&mut command());
        assert!(said.contains("continuing after step"), "{said}");
        assert_eq!(digest(&workshop.path(name)), whole, "{name}");
        succeed(&mut command());
    }
    // a device that is not there, or that this build cannot use, costs nothing that was done
    let elsewhere =
        workshop.train_command("elsewhere", "elsewhere-state", STEPS).arg("--device=cuda:99").output().unwrap();
    let said = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(!elsewhere.status.success() && said.contains("the device is cuda:99"), "{said}");
    let other = fail(workshop.train_command("whole", "whole-state", STEPS).arg("--autoregressive-weight=1"), 2);
    assert!(other.contains("different: `autoregressive_weight`"), "{other}");
}

#[test]
fn threads_change_nothing() {
    let workshop = workshop();
    succeed(workshop.train_command("single", "single-state", STEPS).arg("--threads=1"));
    assert_eq!(digest(&workshop.path("single")), digest(&workshop.path("whole")));
}

#[test]
fn a_state_folder_has_one_writer() {
    let workshop = Workshop::new();
    workshop.init();
    fs::create_dir(workshop.path("state")).unwrap();
    let lock = File::create(workshop.path("state").join(".lock")).unwrap();
    lock.try_lock().unwrap();
    let said = fail(&mut workshop.adapt_command("target", "state", 2), 1);
    assert!(said.contains("in use by another process"), "{said}");
    drop(lock);
    succeed(&mut workshop.adapt_command("target", "state", 2));
}
