//! A tiny task, and the trainer's binary run on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cllm_trainer::history::Point;

/// A folder with everything that a test writes.
pub(crate) struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    /// With a data set of forty questions and a model configuration.
    pub(crate) fn new() -> Self {
        let workshop = Self { folder: tempfile::tempdir().unwrap() };
        let config = r#"{"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 96, "rms_norm_eps": 1e-5}"#;
        fs::write(workshop.path("config.json"), config).unwrap();
        fs::write(workshop.path("data.jsonl"), questions()).unwrap();
        workshop
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `--name=FOLDER/file`.
    pub(crate) fn flag(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.path(file).display())
    }

    /// A model of random weights in `init`.
    pub(crate) fn init(&self) {
        let arguments =
            [self.flag("config", "config.json"), self.flag("data", "data.jsonl"), self.flag("output", "init")];
        succeed(trainer("init").args(arguments).args(["--vocab-size=300", "--seed=3"]));
    }

    /// A target in `target` that knows the task.
    pub(crate) fn adapt(&self) {
        self.init();
        succeed(&mut self.adapt_command("target", "adapt", 120));
    }

    /// A workshop with a target in `target` and its trajectories in `trajectories`.
    pub(crate) fn with_trajectories() -> Self {
        let workshop = Self::new();
        workshop.adapt();
        succeed(&mut workshop.collect_command());
        workshop
    }

    /// `adapt` from `init`.
    pub(crate) fn adapt_command(&self, output: &str, state: &str, steps: u32) -> Command {
        let mut command = trainer("adapt");
        command.args([self.flag("model", "init"), self.flag("dataset", "data.jsonl")]);
        command.args([self.flag("output", output), self.flag("state", state), format!("--steps={steps}")]);
        command.args(["--batch-size=8", "--learning-rate=1e-2", "--warmup-steps=5", "--seed=1", "--threads=2"]);
        command
    }

    /// Trajectories of `target` in `trajectories`, two shards.
    pub(crate) fn collect_command(&self) -> Command {
        let mut command = trainer("collect");
        command.args([
            self.flag("model", "target"),
            self.flag("dataset", "data.jsonl"),
            self.flag("output", "trajectories"),
        ]);
        command.args([
            "--shards=2",
            "--block-size=4",
            "--max-new-tokens=24",
            "--max-examples=30",
            "--seed=5",
            "--threads=2",
        ]);
        command
    }

    /// `train` from `target`.
    pub(crate) fn train_command(&self, output: &str, state: &str, steps: u32) -> Command {
        let mut command = trainer("train");
        command.args([self.flag("model", "target"), self.flag("trajectories", "trajectories")]);
        command.args([self.flag("output", output), self.flag("state", state), format!("--steps={steps}")]);
        command.args([
            "--batch-size=6",
            "--learning-rate=1e-3",
            "--warmup-steps=2",
            "--seed=9",
            "--checkpoint-every-steps=1",
        ]);
        command.arg("--threads=2");
        command
    }
}

fn questions() -> String {
    let lines = (0..40).map(|i| {
        let (table, column) = (["shops", "items", "users"][i % 3], ["name", "price", "town"][i / 3 % 3]);
        format!("{{\"prompt\": \"{table}: {column} {i}?\\n\", \"completion\": \"SELECT {column} FROM {table};\"}}\n")
    });
    lines.collect()
}

/// The binary with a stage.
pub(crate) fn trainer(stage: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm-trainer"));
    command.arg(stage).env_remove("JOB_COMPLETION_INDEX");
    command
}

/// Runs to the end, which must be a good one.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} ended with {}: {}", output.status, said(&output));
    said(&output)
}

/// Runs to the end, which must have this exit code. Gives what was said.
pub(crate) fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}", said(&output));
    said(&output)
}

/// What a process wrote into its log.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The digest of a checkpoint folder.
pub(crate) fn digest(path: &Path) -> String {
    cllm_engine::checkpoint::digest(path).unwrap()
}

/// The history of the run that made a checkpoint.
pub(crate) fn history(output: &Path) -> Vec<Point> {
    serde_json::from_slice(&fs::read(output.join("history.json")).unwrap()).unwrap()
}

/// A loss of a point.
pub(crate) fn loss(point: &Point, name: &str) -> f64 {
    point.losses.iter().find(|(found, _)| found == name).unwrap().1
}

/// The checkpoints in the state folder of a run, oldest first.
pub(crate) fn states(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut states: Vec<_> = paths.filter(|path| name(path).starts_with("step-")).collect();
    states.sort();
    states
}

/// The step of a checkpoint.
pub(crate) fn step_of(state: &Path) -> u64 {
    name(state).trim_start_matches("step-").trim_end_matches(".safetensors").parse().unwrap()
}

/// The step of the newest checkpoint in the state folder of a run; none where there is none.
pub(crate) fn newest(folder: &Path) -> Option<u64> {
    states(folder).last().map(|state| step_of(state))
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// After which step a process went on; none where it did not come so far as to say it.
pub(crate) fn began_after(said: &str) -> Option<u64> {
    if said.contains("starting at the beginning") {
        return Some(0);
    }
    let (_, rest) = said.split_once("continuing after step ")?;
    rest.split(' ').next()?.parse().ok()
}

/// All files of a folder and of those in it.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            let inside = PathBuf::from(name(&path));
            found.extend(contents(&path).into_iter().map(|(path, bytes)| (inside.join(path), bytes)));
        } else {
            found.insert(PathBuf::from(name(&path)), fs::read(&path).unwrap());
        }
    }
    found
}

/// The folders hold the same, byte for byte.
pub(crate) fn assert_same(found: &Path, expected: &Path) {
    let [found, expected] = [(found, contents(found)), (expected, contents(expected))];
    let names = |contents: &BTreeMap<PathBuf, Vec<u8>>| contents.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found.1), names(&expected.1), "files of {} and {}", found.0.display(), expected.0.display());
    for (name, bytes) in &expected.1 {
        assert!(found.1[name] == *bytes, "{} of {} differs", name.display(), found.0.display());
    }
}
