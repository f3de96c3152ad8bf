//! State folders in which something is damaged: the run says so and goes on from the checkpoint before, or ends in words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cllm_crds::status_page::TerminationMessage;
use nix::sys::signal::Signal;

use crate::resume::interrupt;
use crate::support::{Workshop, assert_same, began_after, contents, fail, name, states, step_of, succeed};

const STEPS: u32 = 40;

/// What becomes of the bytes of a file.
type Damage = fn(&mut Vec<u8>);

/// What can happen to a file on a disk.
const DAMAGES: [(&str, Damage); 8] = [
    ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("cut by a byte", |bytes| bytes.truncate(bytes.len() - 1)),
    ("empty", Vec::clear),
    ("zeros", |bytes| bytes.fill(0)),
    ("another weight", |bytes| *bytes.last_mut().unwrap() ^= 1),
    ("another step", |bytes| flip_after(bytes, r#"\"step\":"#)),
    ("other settings", |bytes| flip_after(bytes, r#"\"seed\":"#)),
    ("other figures", |bytes| flip_after(bytes, r#"\"losses\":[[\"loss\","#)),
];

/// Makes the digit after these words another one.
fn flip_after(bytes: &mut [u8], words: &str) {
    let position = bytes.windows(words.len()).position(|window| window == words.as_bytes()).unwrap();
    bytes[position + words.len()] ^= 1;
}

/// A run that was interrupted, `whole` beside it, and copies of its state folder.
struct Interrupted {
    workshop: Workshop,
}

impl Interrupted {
    fn new() -> Self {
        let interrupted = Self { workshop: Workshop::new() };
        interrupted.workshop.init();
        succeed(&mut interrupted.command("whole"));
        interrupt(&mut interrupted.command("first"), &interrupted.state("first"), Signal::SIGTERM);
        assert_eq!(states(&interrupted.state("first")).len(), 2, "the checkpoint before is kept");
        interrupted
    }

    fn command(&self, run: &str) -> Command {
        let mut command = self.workshop.adapt_command(run, &format!("{run}-state"), STEPS);
        command.arg("--checkpoint-every-steps=1");
        command
    }

    fn state(&self, run: &str) -> PathBuf {
        self.workshop.path(&format!("{run}-state"))
    }

    /// A copy of the interrupted run, and its checkpoints: the one before and the newest.
    fn copy(&self, run: &str) -> [PathBuf; 2] {
        fs::create_dir(self.state(run)).unwrap();
        for (path, bytes) in contents(&self.state("first")) {
            fs::write(self.state(run).join(path), bytes).unwrap();
        }
        states(&self.state(run)).try_into().unwrap()
    }

    /// Goes on after this step to the end of a run that nothing happened to. Gives what was said.
    fn goes_on(&self, run: &str, step: u64) -> String {
        let said = succeed(&mut self.command(run));
        assert_eq!(began_after(&said), Some(step), "{run}: {said}");
        assert_same(&self.workshop.path(run), &self.workshop.path("whole"));
        assert_eq!(contents(&self.state(run)).into_keys().collect::<Vec<_>>(), [PathBuf::from(".lock")], "{run}");
        said
    }
}

fn damage(path: &Path, apply: fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    apply(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let interrupted = Interrupted::new();
    for (run, apply) in DAMAGES {
        let [before, newest] = interrupted.copy(run);
        damage(&newest, apply);
        let said = interrupted.goes_on(run, step_of(&before));
        assert!(said.contains("skipping the state") && said.contains(name(&newest)), "{run}: {said}");
    }
    let [before, newest] = interrupted.copy("missing");
    fs::remove_file(newest).unwrap();
    interrupted.goes_on("missing", step_of(&before));
}

#[test]
fn what_is_not_needed_may_be_damaged() {
    let interrupted = Interrupted::new();
    let [before, newest] = interrupted.copy("older");
    damage(&before, Vec::clear);
    interrupted.goes_on("older", step_of(&newest));
    let [before, newest] = interrupted.copy("older-missing");
    fs::remove_file(before).unwrap();
    interrupted.goes_on("older-missing", step_of(&newest));
    let [_, newest] = interrupted.copy("half-written");
    let half = interrupted.state("half-written").join(".step-00000099.safetensors.partial");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("step-00000099.safetensors"), &fs::read(&newest).unwrap()[..1000]).unwrap();
    interrupted.goes_on("half-written", step_of(&newest));
    assert!(!half.exists());
}

#[test]
fn a_run_without_a_sound_checkpoint_ends_in_words() {
    let interrupted = Interrupted::new();
    for (run, apply) in DAMAGES {
        let both = interrupted.copy(run);
        for path in &both {
            damage(path, apply);
        }
        let before = contents(&interrupted.state(run));
        let message = interrupted.workshop.flag("termination-message", "message");
        let said = fail(interrupted.command(run).arg(message), 2);
        let words = fs::read_to_string(interrupted.workshop.path("message")).unwrap();
        let words: TerminationMessage = serde_json::from_str(&words).unwrap();
        let [older, newest] = [name(&both[0]), name(&both[1])];
        for part in ["no checkpoint in", older, newest, "to begin anew"] {
            assert!(said.contains(part), "{run}: {said}");
            assert!(words.error.as_ref().unwrap().contains(part), "{run}: {words:?}");
        }
        assert!(!said.contains("panicked"), "{run}: {said}");
        assert!(!interrupted.workshop.path(run).exists(), "{run}");
        assert!(contents(&interrupted.state(run)) == before, "{run}: nothing was touched");
    }
}
