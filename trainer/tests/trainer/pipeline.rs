//! All stages through the binary, on a task that a tiny model learns.

use std::fs;
use std::path::Path;

use crate::support::{Workshop, digest, fail, history, succeed, trainer};
use cllm_crds::report::{Arm, ArmCheckpoint, ArmStrategy, Report};
use cllm_crds::status_page::TerminationMessage;
use cllm_engine::Checkpoint;
use cllm_engine::checkpoint::{ExportDtype, export_gguf};
use cllm_trainer::data::{RecordArguments, read};

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
    check_convergence(&report);
    check_perplexity(&report);
    check_sampled(&report);
    check_older(&text);
    check_page(&workshop.path("result").join(&name), &report);
    assert_eq!(digest(&workshop.path("result").join(&name)), output.digest, "a report does not change the checkpoint");
    let refused = fail(evaluate(&workshop).arg("--temperatures=0.7"), 2);
    assert!(refused.contains("0 must be among them"), "{refused}");
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
    check_without_references(&workshop, &name);
}

/// Where nobody knows right answers, it counts how likely the target's are.
fn check_without_references(workshop: &Workshop, name: &str) {
    let questions = fs::read_to_string(workshop.path("data.jsonl")).unwrap();
    let without_completion = |line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["completion"] = "".into();
        [record.to_string(), "\n".to_owned()]
    };
    let unanswered: String = questions.lines().flat_map(without_completion).collect();
    fs::write(workshop.path("unanswered.jsonl"), unanswered).unwrap();
    let mut command = evaluate(workshop);
    command.args([workshop.flag("dataset", "unanswered.jsonl"), workshop.flag("output", "unanswered")]);
    let quality = last_words(workshop, command.arg("--metric=Perplexity")).quality.unwrap();
    let folder = workshop.path("unanswered").join(name);
    let report: Report = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    let perplexity = report.perplexity.as_ref().unwrap();
    let [target, cllm] = [perplexity.target, perplexity.cllm].map(|value| format!("{value:.3}"));
    assert_eq!((quality.metric.as_str(), &quality.target, &quality.cllm), ("Perplexity", &target, &cllm));
    let rise = 100.0 * (perplexity.cllm / perplexity.target - 1.0);
    assert!((quality.drop.parse::<f64>().unwrap() - rise).abs() < 0.01, "{quality:?}: {rise} %");
    let agreeing = report.prompts.iter().filter(|prompt| prompt.agrees_with_target).count();
    for arm in &report.arms {
        let expected = if arm.checkpoint == ArmCheckpoint::Target { 12 } else { agreeing };
        assert!((arm.quality - 100.0 * expected as f64 / 12.0).abs() < 1e-9, "{arm:?}");
    }
    let drawn = &report.sampled[0].quality;
    assert!(drawn.is_perplexity() && drawn.target.parse::<f64>().unwrap() >= 1.0, "{drawn:?}");
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    for part in ["% more perplexity", "percent of perplexity gained", "As the target", &target, &cllm] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    assert!(!page.contains(&format!("{target} %")), "a perplexity is no percentage");
}

/// It stands alone, says what the report says and has its plots, the one over training too.
fn check_page(result: &Path, report: &Report) {
    let page = fs::read_to_string(result.join("report.html")).unwrap();
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org/").count());
    for part in [
        "Gain by block size",
        "Cost of a forward",
        "Forwards by the tokens",
        "Tokens per forward over training",
        "Perplexity of the answers of the target over training",
        "the best check on the validation prompts",
        "How blocks become right",
        "perplexity of the target",
        "At temperature 0.7",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    let Report { speedup, quality, conditions, .. } = report;
    for part in
        [&speedup.over_target, &speedup.tokens_per_forward, &quality.drop, &report.cllm.digest, &conditions.dtype]
    {
        assert!(page.contains(part.as_str()), "{part} is missing in {page}");
    }
    let history = history(result);
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
    check_histograms(&report.arms, [&report.target_accepted_len_histogram, &report.accepted_len_histogram]);
    assert_eq!(report.block_sizes.len(), 9);
    assert_eq!(report.forward_cost[0].rows, 1);
}

/// Every token after the first comes from a forward: of the target, and of the trained checkpoint.
fn check_histograms(arms: &[Arm], histograms: [&[u64]; 2]) {
    for (checkpoint, histogram) in [ArmCheckpoint::Target, ArmCheckpoint::Cllm].into_iter().zip(histograms) {
        let is_jacobi = |arm: &&Arm| arm.checkpoint == checkpoint && arm.strategy == ArmStrategy::Jacobi;
        let jacobi = arms.iter().find(is_jacobi).unwrap();
        let counted: u64 = (1..).zip(histogram).map(|(len, count)| len * count).sum();
        assert_eq!(counted, jacobi.generated_tokens - 12, "{checkpoint:?}");
        assert_eq!(histogram.iter().sum::<u64>(), jacobi.decode_forwards, "{checkpoint:?}");
    }
}

fn check_convergence(report: &Report) {
    let convergence = report.convergence.as_ref().unwrap();
    assert_eq!((convergence.prompts, convergence.block_size), (12, 4));
    for counts in [&convergence.target, &convergence.cllm] {
        assert!(counts.blocks > 12, "answers are longer than a block: {counts:?}");
        assert!((1.0..=4.0).contains(&counts.fast_forwarded), "{counts:?}");
        assert!(counts.iterations >= 1.0 && counts.stationary >= 0.0, "{counts:?}");
        assert!(counts.iterations + counts.stationary <= 4.0, "{counts:?}");
    }
}

fn check_perplexity(report: &Report) {
    let perplexity = report.perplexity.as_ref().unwrap();
    assert_eq!(perplexity.tokens, report.arms[0].generated_tokens);
    // it says the likeliest token of a vocabulary of 300, and it knows the task
    assert!((1.0..5.0).contains(&perplexity.target), "{perplexity:?}");
    let ratio = perplexity.cllm / perplexity.target;
    let interval = perplexity.ratio_interval;
    assert!(interval.low <= ratio && ratio <= interval.high, "{perplexity:?}");
}

/// The same comparisons as of greedy decoding; every strategy of a checkpoint says the same.
fn check_sampled(report: &Report) {
    assert_eq!(report.sampled.len(), 1);
    let sampled = &report.sampled[0];
    assert!((sampled.temperature - 0.7).abs() < 1e-9);
    let kinds =
        |arms: &[Arm]| arms.iter().map(|arm| (arm.checkpoint, arm.strategy, arm.block_size)).collect::<Vec<_>>();
    assert_eq!(kinds(&sampled.arms), kinds(&report.arms));
    for arm in &sampled.arms {
        let first = sampled.arms.iter().find(|other| other.checkpoint == arm.checkpoint).unwrap();
        assert_eq!(arm.generated_tokens, first.generated_tokens, "{arm:?}");
        assert!(arm.strategy != ArmStrategy::Autoregressive || (arm.tokens_per_forward - 1.0).abs() < 1e-12);
    }
    check_histograms(&sampled.arms, [&sampled.target_accepted_len_histogram, &sampled.accepted_len_histogram]);
    let interval = sampled.intervals.over_target;
    assert!(interval.low > 0.0 && interval.low <= interval.high, "{interval:?}");
    assert_eq!(sampled.quality.metric, report.quality.metric);
}

/// A report without what this version added is read too.
fn check_older(text: &str) {
    let mut report: serde_json::Value = serde_json::from_str(text).unwrap();
    for field in ["targetAcceptedLenHistogram", "convergence", "perplexity", "sampled"] {
        assert!(report.as_object_mut().unwrap().remove(field).is_some(), "{field} is missing");
    }
    let older: Report = serde_json::from_value(report).unwrap();
    assert!(older.convergence.is_none() && older.perplexity.is_none() && older.sampled.is_empty());
}

fn evaluate(workshop: &Workshop) -> std::process::Command {
    let mut command = trainer("evaluate");
    command.args([
        workshop.flag("target", "target"),
        workshop.flag("model", "cllm"),
        workshop.flag("dataset", "data.jsonl"),
    ]);
    command.args([workshop.flag("output", "result"), "--output-uri=pvc://models/shop".to_owned()]);
    command.args(["--prompts=12", "--block-size=4", "--max-new-tokens=24", "--temperatures=0,0.7", "--threads=1"]);
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
