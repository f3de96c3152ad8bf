//! `cllm bench` on a small random model: figures, conditions, refusals.

use std::fs;
use std::io::Write;
use std::path::Path;

use assert_cmd::Command;
use cllm_engine::ModelConfig;
use cllm_engine::checkpoint::{EosTokenIds, Family};
use cllm_engine::random::random_checkpoint;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 270,
        hidden_size: 16,
        intermediate_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        hidden_act: "silu".to_owned(),
        attention_bias: false,
        sliding_window: None,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_id: Some(EosTokenIds::One(0)),
        pad_token_id: None,
    }
}

/// A folder with a checkpoint and prompts, plain and compressed.
pub(crate) fn playground() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(&folder.path().join("model"), &config(), 7).unwrap();
    let lines =
        "{\"prompt\": \"abc\"}\n\n{\"prompt\": \"hello you\", \"completion\": \"x\"}\n{\"prompt\": \"third\"}\n";
    fs::write(folder.path().join("prompts.jsonl"), lines).unwrap();
    let mut gz = GzEncoder::new(fs::File::create(folder.path().join("prompts.jsonl.gz")).unwrap(), Compression::fast());
    gz.write_all(lines.as_bytes()).unwrap();
    gz.finish().unwrap();
    folder
}

fn bench(folder: &Path, prompts: &str, extra: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("cllm")
        .unwrap()
        .args(["bench", "--model"])
        .arg(folder.join("model"))
        .arg("--prompts")
        .arg(folder.join(prompts))
        .args(["--max-new-tokens", "12", "--block-size", "1,4"])
        .args(extra)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn all_arms_are_measured_on_the_same_tokens() {
    let folder = playground();
    let report = folder.path().join("report.json");
    for prompts in ["prompts.jsonl", "prompts.jsonl.gz"] {
        let extra = ["--lookup", "--output", "json", "--report", report.to_str().unwrap()];
        let (code, stdout, stderr) = bench(folder.path(), prompts, &extra);
        assert_eq!(code, 0, "{stderr}");
        let printed: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(printed, serde_json::from_slice::<Value>(&fs::read(&report).unwrap()).unwrap());
        let arms = printed["arms"].as_array().unwrap();
        let names: Vec<(&str, u64)> =
            arms.iter().map(|arm| (arm["strategy"].as_str().unwrap(), arm["blockSize"].as_u64().unwrap())).collect();
        let fixed = [("Autoregressive", 1), ("Jacobi", 1), ("Jacobi", 4), ("JacobiWithLookup", 4)];
        assert_eq!(names, [&fixed[..], &[("AdaptiveJacobi", 4), ("AdaptiveJacobiWithLookup", 4)]].concat());
        assert!(arms.iter().all(|arm| arm["generatedTokens"] == arms[0]["generatedTokens"]));
        assert_eq!((&arms[0]["tokensPerForward"], &arms[0]["overAutoregressive"]), (&1.0.into(), &1.0.into()));
        assert!(arms[2]["decodeForwards"].as_u64() <= arms[0]["decodeForwards"].as_u64());
        assert_eq!(printed["conditions"]["prompts"], 3);
        assert_eq!(printed["tokensEqual"], true);
        assert!(printed["checkpoint"]["digest"].as_str().unwrap().starts_with("sha256:"));
        assert_eq!(printed["forwardCost"][0]["ratio"], 1.0);
    }
}

#[test]
fn prompts_at_the_same_time_get_the_same_answers() {
    let folder = playground();
    let answers = |concurrency: &str, queue: &str| {
        let file = folder.path().join("tokens.jsonl");
        let extra = ["--output", "json", "--concurrency", concurrency, "--queue", queue];
        let extra = [&extra[..], &["--tokens", file.to_str().unwrap()]].concat();
        let (code, stdout, stderr) = bench(folder.path(), "prompts.jsonl", &extra);
        assert_eq!(code, 0, "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["conditions"]["concurrency"].to_string(), concurrency);
        let lines = fs::read_to_string(&file).unwrap();
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["tokens"].clone()).collect::<Vec<_>>()
    };
    let alone = answers("1", "0");
    for (concurrency, queue) in [("2", "0"), ("2", "1"), ("1", "2"), ("3", "5")] {
        assert_eq!(answers(concurrency, queue), alone, "{concurrency} at a time, {queue} waiting");
    }
}

#[test]
fn the_tokens_of_every_prompt_can_be_written() {
    let folder = playground();
    let file = folder.path().join("tokens.jsonl");
    let (code, _, stderr) = bench(folder.path(), "prompts.jsonl", &["--tokens", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    let answers: Vec<Value> =
        fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lengths: Vec<usize> = answers.iter().map(|answer| answer["prompt"].as_array().unwrap().len()).collect();
    assert_eq!(lengths, [3, 9, 5], "the random model has a token for every byte");
    for answer in &answers {
        let (length, arms) = (answer["tokens"].as_array().unwrap().len(), answer["arms"].as_array().unwrap());
        assert!((1..=12).contains(&length));
        assert_eq!((&arms[0]["strategy"], &arms[0]["blockSize"]), (&"Autoregressive".into(), &1.into()));
        assert_eq!(arms[0]["decodeForwards"], length - 1, "the first token comes from the prompt");
        assert!(arms.iter().all(|arm| arm["decodeForwards"].as_u64() <= arms[0]["decodeForwards"].as_u64()));
        assert!(arms.iter().all(|arm| arm["decodeSeconds"].as_f64() >= Some(0.0)));
    }
}

#[test]
fn the_table_tells_against_what_and_under_which_conditions() {
    let folder = playground();
    let (code, stdout, stderr) = bench(folder.path(), "prompts.jsonl", &["--limit", "2"]);
    assert_eq!(code, 0, "{stderr}");
    for expected in [
        "autoregressive",
        "Jacobi (n = 4)",
        "adaptive Jacobi (n ≤ 4)",
        "t(n)/t(1)",
        "END TO END",
        "same run",
        "2 prompts of",
        "threads",
    ] {
        assert!(stdout.contains(expected), "no '{expected}' in:\n{stdout}");
    }
}

#[test]
fn input_that_is_wrong_is_named_with_its_line() {
    let folder = playground();
    let long = "a".repeat(100);
    for (line, expected) in [
        ("{\"prompt\": ", "bad.jsonl, line 2: is not JSON"),
        ("{\"question\": \"x\"}", "bad.jsonl, line 2: needs a string \"prompt\""),
        (&format!("{{\"prompt\": \"{long}\"}}"), "bad.jsonl, line 2: the prompt has 100 tokens"),
        ("{\"prompt\": \"\"}", "bad.jsonl, line 2: the prompt is empty"),
    ] {
        fs::write(folder.path().join("bad.jsonl"), format!("{{\"prompt\": \"ok\"}}\n{line}\n")).unwrap();
        let report = folder.path().join("report.json");
        let (code, stdout, stderr) = bench(folder.path(), "bad.jsonl", &["--report", report.to_str().unwrap()]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(expected), "no '{expected}' in: {stderr}");
        assert!(!report.exists(), "nothing half-written");
    }
    let (code, _, stderr) = bench(folder.path(), "missing.jsonl", &[]);
    assert!(code == 2 && stderr.contains("missing.jsonl"), "{stderr}");
    fs::remove_file(folder.path().join("model/config.json")).unwrap();
    let (code, _, stderr) = bench(folder.path(), "prompts.jsonl", &[]);
    assert!(code == 2 && stderr.contains("config.json"), "{stderr}");
}

#[test]
fn block_sizes_can_be_left_out() {
    let folder = playground();
    let (code, stdout, stderr) = bench(folder.path(), "prompts.jsonl", &["--adaptive-only", "--output", "json"]);
    assert_eq!(code, 0, "{stderr}");
    let printed: Value = serde_json::from_str(&stdout).unwrap();
    let names: Vec<&str> =
        printed["arms"].as_array().unwrap().iter().map(|arm| arm["strategy"].as_str().unwrap()).collect();
    assert_eq!(names, ["Autoregressive", "AdaptiveJacobi"]);
}
