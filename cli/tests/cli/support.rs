//! A folder with fake binaries and data for `cllm up`, and a process that a test can watch, signal and kill.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Long enough for a machine that does many other things.
const PATIENCE: Duration = Duration::from_secs(120);
/// The digest of every checkpoint that the fake trainer makes.
pub(super) const DIGEST: &str = "abababababababababababababababababababababababababababababababab";

/// A trainer that does what files in `$FAKE` say: `fail-STAGE` holds an exit code, `block-STAGE` makes it wait.
const TRAINER: &str = r#"#!/bin/bash
stage=$1
for argument in "$@"; do
  case $argument in
    --termination-message=*) message=${argument#*=} ;;
    --output=*) output=${argument#*=} ;;
  esac
done
echo "$stage${JOB_COMPLETION_INDEX:+ $JOB_COMPLETION_INDEX}" >> "$FAKE/calls"
echo $$ >> "$FAKE/pids"
echo "working on $stage"
trap 'echo "$stage" >> "$FAKE/interrupted"; exit 75' TERM
while [ -f "$FAKE/block-$stage" ]; do sleep 0.05; done
if [ -f "$FAKE/fail-$stage" ]; then
  echo "the disk of $stage is full"
  [ -f "$FAKE/silent" ] || printf '{"stage":"Training","error":"The disk is full: free some space."}' > "$message"
  exit "$(cat "$FAKE/fail-$stage")"
fi
cp "$FAKE/message-$stage.json" "$message"
if [ "$stage" = evaluate ]; then
  mkdir -p "$output/DIGEST"
  cp "$FAKE/report.json" "$output/DIGEST/report.json"
fi
"#;

/// A server: the test binary itself, see [`serve`].
const SERVER: &str = r#"#!/bin/bash
for argument in "$@"; do
  case $argument in
    --http-port=*) export FAKE_HTTP_PORT=${argument#*=} ;;
    --model=*) export FAKE_MODEL=${argument#*=} ;;
  esac
done
echo serve >> "$FAKE/calls"
printf '%s\n' "$@" > "$FAKE/arguments"
echo $$ >> "$FAKE/pids"
if [ -f "$FAKE/fail-serve" ]; then echo "cannot load"; exit "$(cat "$FAKE/fail-serve")"; fi
exec "$FAKE_SERVER_BINARY" --exact up::fake_server --ignored --nocapture
"#;

/// Where a test works.
pub(super) struct Playground {
    root: tempfile::TempDir,
}

impl Playground {
    /// With the example of `tests/data`, its data, and trainers that succeed at once.
    pub(super) fn new() -> Self {
        let playground = Self { root: tempfile::tempdir().unwrap() };
        for folder in ["bin", "fake", "data/target"] {
            fs::create_dir_all(playground.path(folder)).unwrap();
        }
        for file in ["data/train.jsonl", "data/test.jsonl"] {
            playground.write(file, "{}\n");
        }
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/data/shop.yaml");
        playground.write("shop.yaml", &fs::read_to_string(example).unwrap());
        for (name, script) in [("cllm-trainer", TRAINER), ("cllm-server", SERVER)] {
            let file = playground.write(&format!("bin/{name}"), &script.replace("DIGEST", DIGEST));
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        playground.write_messages("1.85", "0.5");
        playground
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    pub(super) fn write(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.path(relative);
        fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn remove(&self, relative: &str) {
        fs::remove_file(self.path(relative)).unwrap();
    }

    /// Replaces a part of the resources.
    pub(super) fn edit(&self, found: &str, replacement: &str) {
        let text = fs::read_to_string(self.path("shop.yaml")).unwrap();
        assert!(text.contains(found), "{found}");
        self.write("shop.yaml", &text.replace(found, replacement));
    }

    /// The last words of every stage, with that speed-up and that loss of quality.
    pub(super) fn write_messages(&self, over_target: &str, drop: &str) {
        let speedup = serde_json::json!({
            "overTarget": over_target, "overTargetWithLookup": "1.50", "overOwnAutoregressive": "1.80",
            "overTargetEndToEnd": "1.60", "tokensPerForwardBefore": "1.05", "tokensPerForward": "2.90",
            "bestBlockSize": 8, "hardware": "test",
        });
        let quality = serde_json::json!({"metric": "ExactMatch", "target": "90.0", "cllm": "89.5", "drop": drop});
        let output = serde_json::json!({
            "uri": format!("pvc://models/shop/{DIGEST}"), "digest": format!("sha256:{DIGEST}"), "sizeBytes": 10,
        });
        let trajectories = serde_json::json!({
            "examples": 1, "blocks": 2, "states": 3, "tokens": 4, "dropped": 0, "tokensPerForward": "1.00",
        });
        let messages = [
            ("adapt", serde_json::json!({"stage": "Adapting"})),
            ("collect", serde_json::json!({"stage": "Collecting", "trajectories": trajectories})),
            ("train", serde_json::json!({"stage": "Training"})),
            (
                "evaluate",
                serde_json::json!({"stage": "Evaluating", "speedup": speedup, "quality": quality, "output": output}),
            ),
        ];
        for (stage, message) in messages {
            self.write(&format!("fake/message-{stage}.json"), &message.to_string());
        }
        self.write("fake/report.json", &report(&speedup, &quality).to_string());
    }

    /// Starts `cllm up`.
    pub(super) fn up(&self, extra: &[&str]) -> Up {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        // tests run side by side: each takes a port of its own
        let ports = if extra.contains(&"--http-port") { vec![] } else { vec!["--http-port", &port] };
        let child = Command::new(env!("CARGO_BIN_EXE_cllm"))
            .arg("up")
            .arg(self.path("shop.yaml"))
            .arg("--workdir")
            .arg(self.path("work"))
            .arg("--bin-dir")
            .arg(self.path("bin"))
            .args(extra)
            .args(ports)
            .env("FAKE", self.path("fake"))
            .env("FAKE_SERVER_BINARY", std::env::current_exe().unwrap())
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.path("stdout")).unwrap())
            .stderr(fs::File::create(self.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Up { child }
    }

    pub(super) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap_or_default()
    }

    /// The stages that were started, in order.
    pub(super) fn calls(&self) -> Vec<String> {
        self.read("fake/calls").lines().map(str::to_owned).collect()
    }

    /// Waits until a stage has been started so many times in all.
    pub(super) fn wait_for_calls(&self, stage: &str, count: usize) {
        wait_until(&format!("{count} × {stage} in {:?}", self.calls()), || {
            self.calls().iter().filter(|call| call.split(' ').next() == Some(stage)).count() >= count
        });
    }

    pub(super) fn wait_for_output(&self, text: &str) {
        wait_until(&format!("'{text}' on standard output"), || self.read("stdout").contains(text));
    }

    /// Waits until none of the processes that were ever started is there.
    pub(super) fn wait_for_no_children(&self) {
        wait_until("the end of all processes", || self.read("fake/pids").lines().all(|pid| !is_running(pid)));
    }
}

/// A zombie has ended.
fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A running `cllm up`.
pub(super) struct Up {
    child: Child,
}

impl Up {
    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn wait(mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "cllm up does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The body of the ignored test `fake_server`: answers every request with 200 once `$FAKE/unready` is gone.
pub(super) fn serve() {
    let (port, fake) = (std::env::var("FAKE_HTTP_PORT").unwrap(), PathBuf::from(std::env::var("FAKE").unwrap()));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let status = if fake.join("unready").exists() { "503 Service Unavailable" } else { "200 OK" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}

fn report(speedup: &serde_json::Value, quality: &serde_json::Value) -> serde_json::Value {
    let checkpoint = serde_json::json!({"digest": format!("sha256:{DIGEST}"), "parameters": 1000});
    let arm = |checkpoint: &str, strategy: &str, block_size: u32, tokens_per_forward: f64, rate: f64| {
        serde_json::json!({
            "checkpoint": checkpoint, "strategy": strategy, "blockSize": block_size, "generatedTokens": 100,
            "decodeForwards": 90, "decodeSeconds": 1.0, "endToEndSeconds": 1.5, "tokensPerForward": tokens_per_forward,
            "decodeTokensPerSecond": rate, "endToEndTokensPerSecond": rate / 2.0, "quality": 90.0,
        })
    };
    serde_json::json!({
        "version": 1, "createdAt": "2026-01-01T00:00:00Z", "target": checkpoint, "cllm": checkpoint,
        "conditions": {
            "hardware": "test", "threads": 2, "instructionSet": "portable", "dtype": "f32", "cllmVersion": "0.1.0",
            "concurrency": 1, "blockSize": 8, "maxNewTokens": 64, "dataset": "test.jsonl", "prompts": 10,
            "sampling": "greedy", "seed": 0,
        },
        "speedup": speedup, "quality": quality,
        "arms": [
            arm("Target", "Autoregressive", 1, 1.0, 100.0),
            arm("Target", "JacobiWithLookup", 8, 1.1, 120.0),
            arm("Cllm", "Autoregressive", 1, 1.0, 101.0),
            arm("Cllm", "Jacobi", 8, 2.9, 185.0),
        ],
        "forwardCost": [], "blockSizes": [], "acceptedLenHistogram": [], "prompts": [],
    })
}
