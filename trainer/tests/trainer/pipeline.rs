//! All stages through the binary, on a task that a tiny model learns.

use std::fs;
use std::path::Path;

use crate::support::{Workshop, digest, fail, succeed, trainer};
use cllm_crds::report::{ArmCheckpoint, ArmStrategy, Report};
use cllm_crds::status_page::TerminationMessage;
use cllm_engine::Checkpoint;
use cllm_engine::checkpoint::{ExportDtype, export_gguf};
use cllm_trainer::data::{RecordArguments, read};
use cllm_trainer::history::Point;

#[test]
fn from_nothing_to_a_report() {
    let workshop = Workshop::new();
    workshop.adapt();
    let collected = last_words(&workshop, &mut workshop.collect_command()).trajectories.unwrap();
    assert!(collected.examples >= 20, "the target knows the task: {collected:?}");
    assert_eq!(collected.examples + collected.dropped, 30);
    let mut train = workshop.train_command("cllm", "train", 20);
    succeed(train.arg(workshop.flag("validation", "data.jsonl")));
    let words = last_words(&workshop, &mut evaluate(&workshop));
    let output = words.output.clone().unwrap();
    assert_eq!(output.digest, digest(&workshop.path("cllm")));
    let name = output.digest.trim_start_matches("sha256:").to_owned();
    assert_eq!(output.uri, format!("pvc://models/shop/{name}"));
    let text = fs::read_to_string(workshop.path("result").join(&name).join("report.json")).unwrap();
    let report: Report = serde_json::from_str(&text).unwrap();
    assert_eq!((Some(&report.speedup), Some(&report.quality)), (words.speedup.as_ref(), words.quality.as_ref()));
    check_report(&report);
    check_page(&workshop.path("result").join(&name), &report);
    assert_eq!(digest(&workshop.path("result").join(&name)), output.digest, "a report does not change the checkpoint");
    // again: nothing is measured twice, the same is said
    assert_eq!(last_words(&workshop, &mut evaluate(&workshop)).speedup, Some(report.speedup.clone()));
    let mut read_again = trainer("report");
    read_again.args([
        workshop.flag("target", "target"),
        workshop.flag("model", "cllm"),
        workshop.flag("output", "result"),
        "--output-uri=pvc://models/shop".to_owned(),
    ]);
    let again = last_words(&workshop, &mut read_again);
    assert_eq!((again.speedup, again.quality), (Some(report.speedup), Some(report.quality)));
    assert_eq!(again.output, Some(output));
}

/// It stands alone, says what the report says and has its plots, the one over training too.
fn check_page(result: &Path, report: &Report) {
    let page = fs::read_to_string(result.join("report.html")).unwrap();
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org/").count());
    for plot in
        ["Gain by block size", "Cost of a forward", "Forwards by the tokens", "Tokens per forward over training"]
    {
        assert!(page.contains(plot), "{plot} is missing");
    }
    let Report { speedup, quality, conditions, .. } = report;
    for part in
        [&speedup.over_target, &speedup.tokens_per_forward, &quality.drop, &report.cllm.digest, &conditions.dtype]
    {
        assert!(page.contains(part.as_str()), "{part} is missing in {page}");
    }
    let history = fs::read_to_string(result.join("history.json")).unwrap();
    let history: Vec<Point> = serde_json::from_str(&history).unwrap();
    assert_eq!(history.len(), 20, "a point for every step of a short run");
    assert!(history.iter().all(|point| point.losses.iter().any(|(name, loss)| name == "loss" && loss.is_finite())));
    assert!(history.last().unwrap().measured.iter().any(|(name, _)| name == "tokensPerForward"));
}

fn check_report(report: &Report) {
    assert_eq!(report.prompts.len(), 12);
    assert!(report.quality.target.parse::<f64>().unwrap() > 50.0, "{:?}", report.quality);
    let target = &report.arms[0];
    assert_eq!((target.checkpoint, target.strategy), (ArmCheckpoint::Target, ArmStrategy::Autoregressive));
    assert!((target.tokens_per_forward - 1.0).abs() < 1e-12, "one token a forward");
    for arm in &report.arms {
        let sum: u64 = report.prompts.iter().map(|_| 0).sum::<u64>() + arm.generated_tokens;
        assert!(sum > 12 && arm.decode_seconds > 0.0 && arm.end_to_end_seconds > arm.decode_seconds);
    }
    let jacobi =
        report.arms.iter().find(|arm| arm.checkpoint == ArmCheckpoint::Cllm && arm.strategy == ArmStrategy::Jacobi);
    let jacobi = jacobi.unwrap();
    let counted: u64 = (1..).zip(&report.accepted_len_histogram).map(|(len, count)| len * count).sum();
    assert_eq!(counted, jacobi.generated_tokens - 12, "every token after the first comes from a forward");
    assert_eq!(report.block_sizes.len(), 9);
    assert_eq!(report.forward_cost[0].rows, 1);
}

fn evaluate(workshop: &Workshop) -> std::process::Command {
    let mut command = trainer("evaluate");
    command.args([
        workshop.flag("target", "target"),
        workshop.flag("model", "cllm"),
        workshop.flag("dataset", "data.jsonl"),
    ]);
    command.args([workshop.flag("output", "result"), "--output-uri=pvc://models/shop".to_owned()]);
    command.args(["--prompts=12", "--block-size=4", "--max-new-tokens=24", "--threads=1"]);
    command
}

fn last_words(workshop: &Workshop, command: &mut std::process::Command) -> TerminationMessage {
    succeed(command.arg(workshop.flag("termination-message", "message")));
    serde_json::from_str(&fs::read_to_string(workshop.path("message")).unwrap()).unwrap()
}

#[test]
fn shards_are_collected_once_and_checked() {
    let workshop = Workshop::new();
    workshop.adapt();
    let shard = |index: u32| workshop.path("trajectories").join(format!("shard-0000{index}-of-00002.safetensors"));
    succeed(workshop.collect_command().env("JOB_COMPLETION_INDEX", "1"));
    assert!(shard(1).exists() && !shard(0).exists());
    let incomplete = fail(&mut workshop.train_command("cllm", "train", 2), 2);
    assert!(incomplete.contains("which are not the 2 shards of one collection"), "{incomplete}");
    succeed(&mut workshop.collect_command());
    let (first, time) = (fs::read(shard(1)).unwrap(), fs::metadata(shard(1)).unwrap().modified().unwrap());
    succeed(&mut workshop.collect_command());
    assert_eq!(fs::metadata(shard(1)).unwrap().modified().unwrap(), time, "a valid shard is left as it is");
    let mut damaged = first.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(shard(1), damaged).unwrap();
    let complaint = fail(&mut workshop.train_command("cllm", "train", 2), 2);
    assert!(complaint.contains("checksum"), "{complaint}");
    succeed(workshop.collect_command().arg("--threads=1"));
    assert_eq!(fs::read(shard(1)).unwrap(), first, "the same bytes on another number of threads");
    let other = fail(workshop.collect_command().arg("--seed=6"), 2);
    assert!(other.contains("different: `seed`"), "{other}");
}

#[test]
fn bad_input_is_named_and_not_retried() {
    let workshop = Workshop::new();
    workshop.init();
    for (line, problem) in [
        ("{\"prompt\": \"a\", \"completion\": \"b\"}\nnot json\n", "line 2: it is not JSON"),
        ("{\"prompt\": \"a\"}\n", "line 1: it has neither `prompt` and `completion` nor `messages`"),
        ("\n\n{\"prompt\": \"\", \"completion\": \"b\"}\n", "line 3: the prompt is empty"),
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n", "line 1: the messages must"),
        ("", "holds no examples"),
    ] {
        fs::write(workshop.path("data.jsonl"), line).unwrap();
        let said = fail(&mut workshop.adapt_command("target", "adapt", 2), 2);
        assert!(said.contains("data.jsonl") && said.contains(problem), "{said}");
    }
    fs::remove_file(workshop.path("data.jsonl")).unwrap();
    let said = fail(&mut workshop.adapt_command("target", "adapt", 2), 2);
    assert!(said.contains("data.jsonl") && said.contains("check the path"), "{said}");
    assert!(!workshop.path("target").exists());
}

#[test]
fn chats_become_prompts_by_the_template() {
    let workshop = Workshop::new();
    workshop.init();
    let chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"shops: name 1?\"}, {\"role\": \"assistant\", \"content\": \"SELECT name FROM shops;\"}]}\n";
    let pair = "{\"prompt\": \"shops: name 1?\\n\", \"completion\": \"SELECT name FROM shops;\"}\n";
    let checkpoint = cllm_engine::Checkpoint::open(&workshop.path("init")).unwrap();
    let [from_chat, from_pair] = [chat, pair].map(|text| {
        let path = workshop.path("one.jsonl");
        fs::write(&path, text).unwrap();
        read(&path, checkpoint.tokenizer(), &RecordArguments::default(), None).unwrap()
    });
    assert_eq!(from_chat, from_pair);
}

#[test]
fn a_gguf_file_is_trained_as_the_folder_that_it_was_made_of() {
    let workshop = Workshop::new();
    workshop.init();
    let original = Checkpoint::open(&workshop.path("init")).unwrap();
    export_gguf(&original, &workshop.path("init.gguf"), ExportDtype::F32).unwrap();
    succeed(&mut workshop.adapt_command("from-folder", "adapt-folder", 6));
    let mut command = workshop.adapt_command("from-gguf", "adapt-gguf", 6);
    succeed(command.arg(workshop.flag("model", "init.gguf")));
    let [folder, gguf] = ["from-folder", "from-gguf"].map(|name| workshop.path(name));
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&folder) == weights(&gguf), "other weights");
    let [folder, gguf] = [folder, gguf].map(|path| Checkpoint::open(&path).unwrap());
    assert_eq!((gguf.config(), gguf.eos_token_ids()), (original.config(), original.eos_token_ids()));
    assert_eq!(gguf.chat_template(), folder.chat_template());
    let text = fs::read_to_string(workshop.path("data.jsonl")).unwrap() + " ü 12345";
    assert_eq!(gguf.tokenizer().encode(&text).unwrap(), folder.tokenizer().encode(&text).unwrap());
}
