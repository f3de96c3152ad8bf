//! Collections of many texts at a time give what one at a time gives, and go on where they were stopped.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cllm_crds::status_page::{TerminationMessage, TrainerStatus, Trajectories};
use cllm_engine::{Checkpoint, ComputeOptions, DecodeOptions, Model, Strategy, Workspace, generate_with_trajectories};
use cllm_trainer::trajectories::read_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Workshop, fail, succeed, trainer};

/// How often the collection asks the forty questions: long enough to be interrupted.
const REPETITIONS: usize = 75;
const QUESTIONS: usize = 40 * REPETITIONS;

/// With a target that knows the task, and its questions over and over.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.adapt();
    let questions = fs::read_to_string(workshop.path("data.jsonl")).unwrap();
    fs::write(workshop.path("many.jsonl"), questions.repeat(REPETITIONS)).unwrap();
    workshop
}

/// `collect` of all these questions into one shard.
fn collect(workshop: &Workshop, output: &str) -> Command {
    let mut command = trainer("collect");
    command.args([workshop.flag("model", "target"), workshop.flag("dataset", "many.jsonl")]);
    command.args([workshop.flag("output", output), workshop.flag("termination-message", "message")]);
    command.args(["--block-size=4", "--max-new-tokens=24", "--seed=5", "--threads=2"]);
    command
}

/// The shard of [`collect`].
fn shard(workshop: &Workshop, output: &str) -> Vec<u8> {
    fs::read(workshop.path(output).join("shard-00000-of-00001.safetensors")).unwrap()
}

fn parts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_part = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("part-");
    let mut parts: Vec<_> = entries.filter(is_part).collect();
    parts.sort();
    parts
}

fn last_words(workshop: &Workshop) -> TerminationMessage {
    serde_json::from_slice(&fs::read(workshop.path("message")).unwrap()).unwrap()
}

fn collected(workshop: &Workshop, command: &mut Command) -> Trajectories {
    succeed(command);
    last_words(workshop).trajectories.unwrap()
}

/// Waits until something is so, and sends a signal then. Gives the exit code.
fn interrupt(mut child: Child, signal: Signal, is_time: impl Fn() -> bool) -> Option<i32> {
    while !is_time() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    child.wait().unwrap().code()
}

/// How many prompts were done already, as a run says.
fn continued_after(said: &str) -> usize {
    assert!(said.contains("continuing after "), "{said}");
    said.split_once("continuing after ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn many_texts_at_a_time_become_what_each_becomes_alone() {
    let workshop = workshop();
    succeed(collect(&workshop, "alone").args(["--concurrency=1", "--threads=1"]));
    let alone = shard(&workshop, "alone");
    for (output, arguments) in
        [("several", ["--concurrency=7", "--threads=1"]), ("default", ["--threads=3", "--max-bad-records=0"])]
    {
        succeed(collect(&workshop, output).args(arguments));
        assert!(shard(&workshop, output) == alone, "{output}: other bytes");
    }
    check_against_the_engine(&workshop.path("target"), &workshop.path("alone"));
}

/// What the engine decodes alone is what the shard holds, in the order of the lines.
fn check_against_the_engine(target: &Path, folder: &Path) {
    let checkpoint = Checkpoint::open(target).unwrap();
    let model = Model::load(&checkpoint, ComputeOptions { threads: 1, ..ComputeOptions::default() }).unwrap();
    let mut workspace = Workspace::new(&model);
    let (examples, shards) = read_all(folder).unwrap();
    assert!(examples.len() > QUESTIONS / 2, "{:?}", shards[0].counts);
    assert!(examples.is_sorted_by(|a, b| a.index < b.index));
    let block_size = NonZeroUsize::new(4).unwrap();
    let options = DecodeOptions {
        strategy: Strategy::Jacobi { block_size, lookup: false },
        max_new_tokens: 24,
        stop_at_eos: true,
    };
    let mut first_lengths = [0; 4];
    for example in examples.iter().take(100) {
        let (prompt, answer) = example.tokens.split_at(example.prompt_len);
        let first = NonZeroUsize::new(example.blocks[0].states[0].len()).unwrap();
        first_lengths[first.get() - 1] += 1;
        let (generation, blocks) = generate_with_trajectories(&model, &mut workspace, prompt, options, first).unwrap();
        assert_eq!((generation.tokens.as_slice(), blocks), (answer, example.blocks.clone()));
    }
    assert!(first_lengths.iter().all(|&count| count > 5), "blocks begin anywhere: {first_lengths:?}");
}

#[test]
fn a_killed_collection_goes_on_and_ends_in_the_same_shard() {
    let workshop = workshop();
    let whole = collected(&workshop, &mut collect(&workshop, "whole"));
    let folder = workshop.path("killed");
    // at any moment of a text, of a part, of the name of a part
    for kept in [1, 2, 40, 41, 200] {
        let mut command = collect(&workshop, "killed");
        let child = command.arg("--checkpoint-every-seconds=0").stderr(Stdio::null()).spawn().unwrap();
        assert_eq!(interrupt(child, Signal::SIGKILL, || parts(&folder).len() >= kept), None);
        assert!(!folder.join("shard-00000-of-00001.safetensors").exists());
    }
    let kept = parts(&folder).len();
    let said = succeed(&mut collect(&workshop, "killed"));
    assert!(continued_after(&said) >= kept, "{said}");
    assert!(shard(&workshop, "killed") == shard(&workshop, "whole"), "other bytes");
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the shard and its lock: {names:?}");
    let killed = last_words(&workshop).trajectories.unwrap();
    assert_eq!(Trajectories { tokens_per_second: None, ..killed }, Trajectories { tokens_per_second: None, ..whole });
}

#[test]
fn a_signal_keeps_what_is_complete() {
    let workshop = workshop();
    succeed(&mut collect(&workshop, "whole"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = collect(&workshop, "stopped");
    let child = command.arg(format!("--metrics-port={port}")).stderr(Stdio::null()).spawn().unwrap();
    let has_begun = || {
        let metrics = page(port).map(|page| page.progress.metrics).unwrap_or_default();
        metrics.iter().any(|metric| metric.name == "tokensPerSecond" && metric.value.parse::<f64>().unwrap() > 0.0)
    };
    assert_eq!(interrupt(child, Signal::SIGTERM, has_begun), Some(75));
    assert_eq!(parts(&workshop.path("stopped")).len(), 1, "long before the first minute has passed");
    assert!(last_words(&workshop).error.unwrap().contains("interrupted"));
    let said = succeed(&mut collect(&workshop, "stopped"));
    assert!(continued_after(&said) > 0, "{said}");
    assert!(shard(&workshop, "stopped") == shard(&workshop, "whole"), "other bytes");
}

/// The status page, once there is one.
fn page(port: u16) -> Option<TrainerStatus> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

#[test]
fn parts_that_are_damaged_or_of_others_are_named() {
    let workshop = workshop();
    succeed(&mut collect(&workshop, "whole"));
    let folder = workshop.path("damaged");
    let mut command = collect(&workshop, "damaged");
    let child = command.arg("--checkpoint-every-seconds=0").stderr(Stdio::null()).spawn().unwrap();
    interrupt(child, Signal::SIGKILL, || parts(&folder).len() >= 8);
    let parts = parts(&folder);
    for (arguments, different) in [
        (vec!["--seed=6".to_owned()], "different: `seed`"),
        (vec![workshop.flag("model", "init")], "different: `model`"),
        (vec!["--max-new-tokens=25".to_owned()], "different: `max_new_tokens`"),
    ] {
        let said = fail(collect(&workshop, "damaged").args(arguments), 2);
        assert!(said.contains(different) && said.contains("part-00000-of-00001-00000000"), "{said}");
    }
    let content = fs::read(&parts[0]).unwrap();
    // in the length of the header, in what it says, in a value, at the end; cut; the part of other prompts
    let flip = |place: usize| {
        let mut content = content.clone();
        content[place] ^= 2;
        content
    };
    for (part, content) in parts.iter().zip([
        flip(0),
        flip(200),
        flip(content.len() - 30),
        flip(content.len() - 1),
        content[..content.len() / 2].to_vec(),
        Vec::new(),
        fs::read(&parts[7]).unwrap(),
    ]) {
        fs::write(part, content).unwrap();
    }
    let said = succeed(&mut collect(&workshop, "damaged"));
    for (number, part) in parts.iter().enumerate() {
        let is_named = said.contains(&format!("{} is damaged", part.display()));
        // of two that hold the same, the first counts
        assert_eq!(is_named, number < 6 || number == 7, "{}: {said}", part.display());
    }
    assert_eq!(said.matches("its prompts are answered again").count(), 6, "{said}");
    assert!(shard(&workshop, "damaged") == shard(&workshop, "whole"), "other bytes");
}

#[test]
fn a_full_disk_loses_nothing_that_was_done() {
    let workshop = workshop();
    let few = |output: &str| {
        let mut command = collect(&workshop, output);
        command.arg("--max-examples=200");
        command
    };
    succeed(&mut few("whole"));
    let mut limited = Command::new("bash");
    let command = few("full");
    // the part of a text fits, the shard does not
    limited
        .args(["-c", "ulimit -f 16; trap '' XFSZ; exec \"$0\" \"$@\" --checkpoint-every-seconds=0"])
        .arg(command.get_program())
        .args(command.get_args());
    let said = fail(&mut limited, 1);
    assert!(said.contains("cannot write") && said.contains("make room"), "{said}");
    assert!(!workshop.path("full").join("shard-00000-of-00001.safetensors").exists());
    let said = succeed(&mut few("full"));
    assert_eq!(continued_after(&said), 200, "{said}");
    assert!(shard(&workshop, "full") == shard(&workshop, "whole"), "other bytes");
}

#[test]
fn what_is_dropped_is_counted_by_its_reason() {
    let workshop = Workshop::new();
    workshop.init();
    let long = format!("{{\"prompt\": \"{}\", \"completion\": \"SELECT\"}}\n", "shops name ".repeat(90));
    fs::write(workshop.path("many.jsonl"), fs::read_to_string(workshop.path("data.jsonl")).unwrap() + &long).unwrap();
    let untrained = || {
        let mut command = collect(&workshop, "untrained");
        command.arg(workshop.flag("model", "init"));
        command
    };
    let found = collected(&workshop, &mut untrained());
    let because = found.dropped_because.unwrap();
    assert_eq!((found.examples + found.dropped, because.too_long), (41, 1), "{found:?}");
    assert!(because.truncated + because.degenerate > 20, "random weights know no end: {found:?}");
    assert_eq!(because.empty + because.truncated + because.degenerate + because.too_long, found.dropped);
    assert!(found.tokens_per_second.clone().unwrap().parse::<f64>().unwrap() > 0.0);
    let again = collected(&workshop, &mut untrained());
    assert_eq!(again, Trajectories { tokens_per_second: None, ..found }, "nothing was left to generate");
}
