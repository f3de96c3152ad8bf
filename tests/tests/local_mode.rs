//! `cllm up` with the real trainer and server: whatever is killed, and in whichever stage, the result is the same.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use cllm_tests::eventually;
use serde_json::Value;

const STAGES: [&str; 4] = ["adapt", "collect", "train", "evaluate"];

/// A made-up task that a model of 70,000 weights learns in seconds, and the spec that trains on it.
struct Playground {
    folder: tempfile::TempDir,
}

/// The binaries of the workspace lie beside each other.
fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run `cargo test --workspace`, which builds it", path.display());
    path
}

impl Playground {
    fn new() -> Self {
        let playground = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(playground.path("train.jsonl"), questions(0..120)).unwrap();
        fs::write(playground.path("test.jsonl"), questions(120..1120)).unwrap();
        fs::write(playground.path("config.json"), include_str!("data/tiny.config.json")).unwrap();
        fs::write(playground.path("tiny.yaml"), include_str!("data/tiny.yaml")).unwrap();
        let output = Command::new(binary("cllm-trainer"))
            .current_dir(playground.folder.path())
            .args(["init", "--config=config.json", "--data=train.jsonl", "--output=init"])
            .args(["--vocab-size=300", "--seed=3"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        playground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn up(&self, workdir: &str) -> Command {
        let mut command = Command::new(binary("cllm"));
        command.arg("up").arg(self.path("tiny.yaml")).arg("--workdir").arg(self.path(workdir));
        command.args(["--exit-when-ready", "--output", "json"]);
        command
    }

    /// Runs to the end and gives the report.
    fn finish(&self, workdir: &str) -> Value {
        let output = self.up(workdir).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let results = self.path(workdir).join("claims/models/tiny");
        let reports: Vec<PathBuf> =
            fs::read_dir(results).unwrap().map(|entry| entry.unwrap().path().join("report.json")).collect();
        let report = reports.iter().find(|path| path.exists()).unwrap();
        serde_json::from_slice(&fs::read(report).unwrap()).unwrap()
    }

    fn start(&self, workdir: &str) -> Child {
        self.up(workdir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Whether a process of this stage was started: each has a log from its start.
    fn has_begun(&self, workdir: &str, stage: &str) -> bool {
        let mut logs = fs::read_dir(self.path(workdir).join("logs")).into_iter().flatten().flatten();
        logs.any(|log| log.file_name().to_string_lossy().starts_with(&format!("tiny-{stage}-")))
    }

    /// Processes that work in the folder.
    fn processes(&self, workdir: &str) -> Vec<String> {
        let folder = self.path(workdir).display().to_string();
        let commands = fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
            fs::read_to_string(process.path().join("cmdline")).ok().map(|command| command.replace('\0', " "))
        });
        commands.filter(|command| command.contains(&folder)).collect()
    }
}

fn questions(numbers: std::ops::Range<usize>) -> String {
    let lines = numbers.map(|i| {
        let (table, column) = (["shops", "items", "users"][i % 3], ["name", "price", "town"][i / 3 % 3]);
        format!("{{\"prompt\": \"{table}: {column} {i}?\\n\", \"completion\": \"SELECT {column} FROM {table};\"}}\n")
    });
    lines.collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All that must not depend on when it was computed.
fn result(report: &Value) -> Value {
    let arms: Vec<Value> = report["arms"]
        .as_array()
        .unwrap()
        .iter()
        // block sizes beside the declared one are chosen by speed
        .filter(|arm| arm["blockSize"] == 1 || arm["blockSize"] == 4)
        .map(|arm| {
            serde_json::json!([arm["strategy"], arm["generatedTokens"], arm["tokensPerForward"], arm["quality"]])
        })
        .collect();
    serde_json::json!([report["target"], report["cllm"], report["quality"], arms])
}

#[tokio::test]
async fn a_run_that_is_killed_in_every_stage_ends_like_one_that_is_not() {
    let playground = Playground::new();
    let uninterrupted = playground.finish("uninterrupted");
    for stage in STAGES {
        let mut up = playground.start("killed");
        eventually("the stage", Duration::from_secs(60), async || {
            if playground.has_begun("killed", stage) { Ok(()) } else { Err(format!("{stage} has not begun")) }
        })
        .await
        .unwrap();
        up.kill().unwrap();
        up.wait().unwrap();
        eventually("the end of all children", Duration::from_secs(30), async || {
            let left = playground.processes("killed");
            if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
        })
        .await
        .unwrap();
        let results = playground.path("killed/claims/models/tiny");
        let reports = fs::read_dir(results).into_iter().flatten().flatten();
        assert!(reports.into_iter().all(|entry| !entry.path().join("report.json").exists()), "killed too late");
    }
    let resumed = playground.finish("killed");
    assert_eq!(result(&resumed), result(&uninterrupted));
}
