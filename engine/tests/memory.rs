//! Loading a checkpoint takes little more memory than its packed weights. A peak belongs to a process, so that each is measured in one of
//! its own.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::path::Path;
use std::process::Command;

use cllm_engine::checkpoint::{EosTokenIds, ExportDtype, Family, export_gguf};
use cllm_engine::random::random_checkpoint;
use cllm_engine::{Checkpoint, ComputeOptions, Model, ModelConfig, Storage};

/// Tokenizer, threads, buffers and what of the files is in memory at a time.
const ALLOWED_BESIDE: u64 = 128 << 20;
/// Tell the process that measures what to load, and in which storage.
const PATH: &str = "CLLM_TEST_CHECKPOINT";
const STORAGE: &str = "CLLM_TEST_STORAGE";

/// 220 MB in f32, most of them in one matrix that alone is more than what is allowed.
fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 40_000,
        hidden_size: 1024,
        intermediate_size: 1024,
        num_hidden_layers: 2,
        num_attention_heads: 8,
        num_key_value_heads: 8,
        head_dim: 128,
        max_position_embeddings: 128,
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

/// A number that the process said about itself.
fn figure(output: &str, name: &str) -> u64 {
    let found = output.lines().find_map(|line| line.split_once(name)?.1.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in {output}"))
}

/// Loads the checkpoint in a process of its own and checks its peak; gives the bytes of the packed weights.
fn check_peak(path: &Path, storage: Option<Storage>) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "measures_itself"])
        .env(PATH, path)
        .env(STORAGE, storage.map_or("", Storage::name))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (weights, peak) = (figure(&text, "weights:"), figure(&text, "peak:"));
    assert!(peak <= weights + ALLOWED_BESIDE, "a peak of {peak} bytes for {weights} bytes of weights");
    assert!(peak >= weights, "a peak of {peak} bytes cannot hold {weights} bytes of weights");
    weights
}

#[test]
fn loading_takes_little_more_than_the_packed_weights() {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(folder.path(), &config(), 1).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let gguf = folder.path().join("model.gguf");
    export_gguf(&checkpoint, &gguf, ExportDtype::F32).unwrap();
    let stored = 4 * checkpoint.parameters();
    drop(checkpoint);
    assert_eq!(check_peak(folder.path(), None), stored);
    assert_eq!(check_peak(&gguf, None), stored);
    let quantised = check_peak(folder.path(), Some(Storage::Q8_0));
    assert!((stored / 4..stored / 3).contains(&quantised), "{quantised} bytes in q8_0, {stored} in f32");
}

#[test]
#[ignore = "the other test starts it, in a process of its own"]
fn measures_itself() {
    let path = std::env::var_os(PATH).expect("the checkpoint to load");
    let storage =
        Storage::ALL.into_iter().find(|storage| std::env::var_os(STORAGE).is_some_and(|name| name == storage.name()));
    let checkpoint = Checkpoint::open(Path::new(&path)).unwrap();
    let model = Model::load(&checkpoint, ComputeOptions { storage, ..ComputeOptions::default() }).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    let peak: u64 = peak.and_then(|kibibytes| kibibytes.trim().parse().ok()).unwrap();
    println!("\nweights: {}\npeak: {}", model.weight_bytes(), peak * 1024);
}
