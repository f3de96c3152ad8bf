//! The real binary: its exit codes, its one sentence, and its end by a signal.

use std::{path::Path, process::Stdio};

use cllm_engine::random::random_checkpoint;
use futures::StreamExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::{
    engine::config,
    support::{completion, eventually},
};

pub(crate) fn command(model: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm-server"));
    command.arg(format!("--model={}", model.display()));
    command.args(["--served-name=scripted/model", "--http-port=0", "--metrics-port=0", "--threads=1"]);
    command.env_remove("RUST_LOG").stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub(crate) struct Process {
    child: Child,
    pub(crate) http: String,
    log: Lines<BufReader<ChildStderr>>,
}

impl Process {
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Some(line) = log.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("listening http=") {
                let http = format!("http://{}", rest.split(' ').next().unwrap());
                return Self { child, http, log };
            }
        }
        panic!("it never listened");
    }

    pub(crate) async fn ready(&self) {
        let url = format!("{}/readyz", self.http);
        eventually("ready", async || reqwest::get(&url).await.unwrap().status() == 200).await;
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    async fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        while let Some(line) = self.log.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        (self.child.wait().await.unwrap().code(), rest)
    }
}

#[tokio::test]
async fn both_signals_let_the_running_answer_finish() {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(folder.path(), &config(3000), 7).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = command(folder.path());
        command.arg("--strategy=Autoregressive");
        let process = Process::start(command).await;
        process.ready().await;
        let body = completion(
            "select",
            &json!({"max_tokens": 2900, "stream": true, "stream_options": {"include_usage": true}}),
        );
        let url = format!("{}/v1/completions", process.http);
        let mut stream = reqwest::Client::new().post(url).json(&body).send().await.unwrap().bytes_stream();
        let mut received = stream.next().await.unwrap().unwrap().to_vec();
        process.signal(signal);
        while let Some(more) = stream.next().await {
            received.extend(more.unwrap());
        }
        let received = String::from_utf8(received).unwrap();
        assert!(
            received.contains("\"completion_tokens\":2900") && received.ends_with("data: [DONE]\n\n"),
            "{received}"
        );
        let (code, log) = process.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("draining") && log.contains("done"), "{log}");
    }
}

#[tokio::test]
async fn bad_input_is_exit_code_2_and_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (code, log) = Process::start(command(folder.path())).await.ended().await;
    assert_eq!(code, Some(2), "{log}");
    let errors: Vec<_> = log.lines().filter(|line| line.starts_with("error: the model cannot be loaded: ")).collect();
    assert!(matches!(errors[..], [one] if one.contains("config.json") && one.ends_with('.')), "{log}");

    let mut no_key = command(folder.path());
    no_key.arg("--api-key-file=does-not-exist");
    let output = no_key.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("does-not-exist"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm-server"));
    let port = taken.local_addr().unwrap().port();
    command.args(["--model=nowhere", "--served-name=a", "--metrics-port=0", &format!("--http-port={port}")]);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&port.to_string()) && message.trim_end().ends_with('.'), "{message}");
}
