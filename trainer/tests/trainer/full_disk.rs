//! Disks without room: the run ends in words, what was good stays so, and when there is room it goes on.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use crate::resume::interrupt;
use crate::support::{Workshop, assert_same, began_after, contents, fail, states, step_of, succeed};

const STEPS: u32 = 40;
/// Bytes of a volume: room for a dozen checkpoints.
const VOLUME: usize = 16 << 20;

/// Does the work where a file system of its own lies at `path`. It is seen by the thread that works and its children alone, and goes with
/// them. Making it takes the rights of root; where they are missing, the work is not done, and that is said.
fn with_volume(path: &Path, work: impl FnOnce() + Send) {
    let outcome = std::thread::scope(|scope| scope.spawn(|| mount(path).map(|()| work())).join());
    match outcome {
        Ok(Ok(())) => {}
        // past the harness, which shows nothing of a test that passes
        Ok(Err(problem)) => {
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED a test of full disks: no file system of its own here ({problem})").unwrap();
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn mount(path: &Path) -> Result<(), String> {
    fs::create_dir(path).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare: {error}"))?;
    let (size, path) = (format!("size={VOLUME}"), path.to_str().unwrap());
    for arguments in [vec!["--make-rprivate", "/"], vec!["-t", "tmpfs", "-o", size.as_str(), "tmpfs", path]] {
        let output = Command::new("mount").args(arguments).output().map_err(|error| format!("mount: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
    Ok(())
}

/// Leaves no room beside this file.
fn fill(path: &Path) {
    const BLOCK: [u8; 4096] = [1; 4096];
    let mut file = File::create(path).unwrap();
    let end = (0..=VOLUME / BLOCK.len()).find_map(|_| file.write_all(&BLOCK).err());
    assert_eq!(end.unwrap().kind(), ErrorKind::StorageFull);
}

fn command(workshop: &Workshop, output: &str, state: &str) -> Command {
    let mut command = workshop.adapt_command(output, state, STEPS);
    command.arg("--checkpoint-every-steps=1");
    command
}

#[test]
fn a_checkpoint_without_room_is_a_sentence_and_the_run_goes_on_when_there_is_some() {
    let workshop = Workshop::new();
    workshop.init();
    succeed(&mut command(&workshop, "whole", "whole-state"));
    with_volume(&workshop.path("volume"), || {
        let (state, filler) = (workshop.path("volume/state"), workshop.path("volume/filler"));
        interrupt(&mut command(&workshop, "target", "volume/state"), &state, Signal::SIGTERM);
        let before = contents(&state);
        let newest = step_of(states(&state).last().unwrap());
        fill(&filler);
        let said = fail(&mut command(&workshop, "target", "volume/state"), 1);
        for part in ["cannot write", state.to_str().unwrap(), "No space left on device", "the file takes", "make room"]
        {
            assert!(said.contains(part), "{part} is missing: {said}");
        }
        assert!(contents(&state) == before, "the checkpoints are as they were, and nothing is beside them");
        fs::remove_file(filler).unwrap();
        let said = succeed(&mut command(&workshop, "target", "volume/state"));
        assert_eq!(began_after(&said), Some(newest), "{said}");
        assert_same(&workshop.path("target"), &workshop.path("whole"));
    });
}

#[test]
fn an_output_without_room_is_a_sentence_and_appears_when_there_is_some() {
    let workshop = Workshop::new();
    workshop.init();
    succeed(&mut command(&workshop, "whole", "whole-state"));
    with_volume(&workshop.path("volume"), || {
        let (output, filler) = (workshop.path("volume/target"), workshop.path("volume/filler"));
        fill(&filler);
        let said = fail(&mut command(&workshop, "volume/target", "state"), 1);
        for part in ["cannot write", output.to_str().unwrap(), "No space left on device", "make room"] {
            assert!(said.contains(part), "{part} is missing: {said}");
        }
        fs::remove_file(filler).unwrap();
        assert_eq!(fs::read_dir(workshop.path("volume")).unwrap().count(), 0, "nothing is left of it");
        let said = succeed(&mut command(&workshop, "volume/target", "state"));
        assert_eq!(began_after(&said), Some(u64::from(STEPS) - 1), "{said}");
        assert_same(&output, &workshop.path("whole"));
    });
}

#[test]
fn a_full_disk_is_a_sentence_and_leaves_nothing() {
    let workshop = Workshop::new();
    workshop.init();
    let mut limited = Command::new("bash");
    let command = workshop.adapt_command("target", "state", 2);
    limited
        .args(["-c", "ulimit -f 64; trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    let said = fail(&mut limited, 1);
    assert!(said.contains("cannot write") && said.contains("make room"), "{said}");
    assert!(!workshop.path("target").exists());
    succeed(&mut workshop.adapt_command("target", "state", 2));
}
