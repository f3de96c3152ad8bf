//! One start of a run, and the moment at which it is killed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use cllm_crds::status_page::TrainerStatus;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::distributed::{free_port, start};
use crate::support::{name, newest, said};

/// Between two looks at a folder: a tiny checkpoint is written within a millisecond or two.
const LOOK_EVERY: Duration = Duration::from_micros(50);
/// Between two questions for the last step.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// When a run is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// So long after its start, wherever it is then.
    AfterStart(Duration),
    /// So long after it told that it had made so many steps.
    AfterSteps(u64, Duration),
    /// While it writes a checkpoint, after so many steps.
    InsideCheckpoint(u64),
    /// While it computes with a checkpoint of the present weights, which it makes to collect trajectories anew.
    InsideRefresh,
    /// While it writes the output.
    InsideOutput,
    /// As soon as the output is there; the checkpoints may still be there too.
    AfterOutput,
    /// It is left alone.
    Never,
}

impl Moment {
    /// One of every kind among ten that follow each other.
    pub(super) fn draw(number: usize, random: &mut ChaCha8Rng) -> Self {
        let steps = random.random_range(1..8);
        let mut pause = |longest| Duration::from_micros(random.random_range(0..longest));
        match number % 10 {
            0 | 5 => Self::AfterStart(pause(300_000)),
            1 | 3 | 7 => Self::AfterSteps(steps, pause(20_000)),
            2 | 4 | 6 => Self::InsideCheckpoint(steps),
            8 => Self::InsideOutput,
            _ => Self::AfterOutput,
        }
    }
}

/// A run that is started again and again.
pub(super) struct Run<'a> {
    /// Makes its command.
    pub command: &'a dyn Fn() -> Command,
    /// Where it keeps its checkpoints.
    pub state: PathBuf,
    /// What it makes.
    pub output: PathBuf,
}

/// What became of a start.
pub(super) struct Life {
    /// Its log.
    pub said: String,
    /// How it ended; none where it was killed.
    pub code: Option<i32>,
    /// The last step that its status page was seen to tell of.
    pub told: Option<u64>,
}

impl Run<'_> {
    /// Starts it, and kills it at a moment unless it ends before.
    pub(super) fn live(&self, moment: Moment, manner: &[&str]) -> Life {
        let port = free_port();
        let mut command = (self.command)();
        command.args(manner).arg(format!("--metrics-port={port}"));
        let mut child = start(command);
        let told = self.wait_for(moment, &mut child, port);
        if !matches!(moment, Moment::Never) {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        Life { said: said(&output), code: output.status.code(), told }
    }

    /// Waits for a moment of a process, or for its end. Gives the last step that it told of at this port.
    pub(super) fn wait_for(&self, moment: Moment, child: &mut Child, port: u16) -> Option<u64> {
        let first = self.newest();
        match moment {
            Moment::Never => return None,
            Moment::AfterStart(pause) => std::thread::sleep(pause),
            Moment::AfterSteps(steps, pause) => {
                wait_until(child, ASK_EVERY, || reported_step(port) >= Some(first + steps));
                std::thread::sleep(pause);
            }
            // nothing may come between the look and the signal
            Moment::InsideCheckpoint(steps) => {
                wait_until(child, ASK_EVERY, || reported_step(port) >= Some(first + steps));
                wait_until(child, LOOK_EVERY, || self.is_writing_checkpoint());
                return None;
            }
            Moment::InsideRefresh => {
                let left = self.refresh_begun();
                wait_until(child, LOOK_EVERY, || self.has_begun_refresh_since(left));
                return None;
            }
            Moment::InsideOutput => {
                let unfinished = self.output.with_file_name(format!(".{}.partial", name(&self.output)));
                wait_until(child, LOOK_EVERY, || unfinished.exists());
                return None;
            }
            Moment::AfterOutput => {
                wait_until(child, LOOK_EVERY, || self.output.exists());
                return None;
            }
        }
        reported_step(port)
    }

    /// The step of the newest checkpoint; 0 where there is none.
    pub(super) fn newest(&self) -> u64 {
        newest(&self.state).unwrap_or(0)
    }

    /// When the checkpoint of the present weights was made that is there. It stays where the process is killed, until the next one.
    pub(super) fn refresh_begun(&self) -> Option<SystemTime> {
        fs::metadata(self.state.join("probe")).and_then(|found| found.modified()).ok()
    }

    /// Whether another one is there than then.
    pub(super) fn has_begun_refresh_since(&self, then: Option<SystemTime>) -> bool {
        self.refresh_begun().is_some_and(|begun| Some(begun) != then)
    }

    /// Whether a checkpoint is half written. It stays so where the process is killed.
    pub(super) fn is_writing_checkpoint(&self) -> bool {
        let entries = fs::read_dir(&self.state).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(".step-"))
    }
}

/// Until the condition holds or the process is at its end.
fn wait_until(child: &mut Child, every: Duration, condition: impl Fn() -> bool) {
    while child.try_wait().unwrap().is_none() && !condition() {
        std::thread::sleep(every);
    }
}

/// The last step, as the status page tells it; none where nobody answers, or no step was made yet.
fn reported_step(port: u16) -> Option<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /status HTTP/1.0\r\nhost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let status: TrainerStatus = serde_json::from_str(body).ok()?;
    status.progress.metrics.iter().find(|metric| metric.name == "step")?.value.parse().ok()
}
