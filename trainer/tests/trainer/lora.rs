//! Adapters instead of all weights, and activations that are computed again.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};
use cllm_engine::{Checkpoint, ComputeOptions, DecodeOptions, Model, Strategy, Workspace, generate};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::resume::interrupt;
use crate::support::{Workshop, digest, fail, history, succeed};

/// With a model in `base` that knows the task in another wording.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.init();
    let questions = fs::read_to_string(workshop.path("data.jsonl")).unwrap();
    let reworded = questions.replace("SELECT", "-").replace("FROM", "SELECT").replace('-', "FROM");
    fs::write(workshop.path("other.jsonl"), reworded).unwrap();
    succeed(workshop.adapt_command("base", "base-state", 80).arg(workshop.flag("dataset", "other.jsonl")));
    workshop
}

/// `adapt` from `base` with adapters that count twice.
fn lora_command(workshop: &Workshop, output: &str, state: &str, steps: u32) -> Command {
    let mut command = workshop.adapt_command(output, state, steps);
    command.arg(workshop.flag("model", "base")).args(["--method=LoRA", "--lora-rank=8", "--lora-alpha=16"]);
    command
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn adapters_learn_and_are_merged() {
    let workshop = workshop();
    succeed(&mut lora_command(&workshop, "adapted", "state", 80));
    let folder = workshop.path("adapted");
    let history = history(&folder);
    let [first, last] = [history.first(), history.last()].map(|point| point.unwrap().losses[0].1);
    assert!(last < 0.3 * first, "the loss went from {first} to {last}");
    let config = fs::read(folder.join("adapter/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(8), Some(16.0)));
    check_merged(&workshop.path("base"), &folder);
    assert!(answer(&folder, "items: price 0?\n").starts_with("SELECT"));
    let with_adapter = digest(&folder);
    fs::remove_dir_all(folder.join("adapter")).unwrap();
    assert_eq!(digest(&folder), with_adapter, "the merged weights are the checkpoint");
}

/// The matrices of the layers are those of `base` and the product of their adapters; everything else is as it was.
fn check_merged(base: &Path, adapted: &Path) {
    let [before, after] = [base, adapted].map(|folder| tensors(&folder.join("model.safetensors")));
    let adapters = tensors(&adapted.join("adapter/adapter_model.safetensors"));
    assert_eq!((before.len(), adapters.len()), (after.len(), 2 * 7 * 2), "two layers of seven matrices");
    for (name, before) in &before {
        let (found, before_values) = (values(&after[name]), values(before));
        let Some(module) = name.strip_suffix("_proj.weight") else {
            assert_eq!(found, before_values, "{name}");
            continue;
        };
        let half = |half: &str| &adapters[&format!("base_model.model.{module}_proj.lora_{half}.weight")];
        let added = (half("B").matmul(half("A")).unwrap() * 2.0).unwrap();
        let expected = values(&(before + added).unwrap());
        assert_ne!(found, before_values, "{name}");
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
    }
}

fn answer(folder: &Path, prompt: &str) -> String {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let model = Model::load(&checkpoint, ComputeOptions { threads: 1, ..ComputeOptions::default() }).unwrap();
    let strategy = Strategy::Jacobi { block_size: NonZeroUsize::new(4).unwrap(), lookup: false };
    let options = DecodeOptions { strategy, max_new_tokens: 24, stop_at_eos: true };
    let prompt = checkpoint.tokenizer().encode(prompt).unwrap();
    let tokens = generate(&model, &mut Workspace::new(&model), &prompt, options).unwrap().tokens;
    checkpoint.tokenizer().decode(&tokens)
}

#[test]
fn an_interrupted_run_goes_on_from_its_adapters() {
    let workshop = workshop();
    succeed(&mut lora_command(&workshop, "whole", "whole-state", 60));
    let command = || {
        let mut command = lora_command(&workshop, "resumed", "state", 60);
        command.arg("--checkpoint-every-steps=1");
        command
    };
    let status = interrupt(&mut command(), &workshop.path("state"), Signal::SIGTERM);
    assert_eq!(status.code(), Some(75));
    for entry in fs::read_dir(workshop.path("state")).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().ends_with(".safetensors") {
            let state = tensors(&entry.path());
            assert_eq!(state.len(), 2 * 4 * 2 * 3, "adapters of four matrices a layer, and two moments of each");
            assert!(state.keys().all(|name| name.contains(".lora_")));
        }
    }
    let other = fail(command().arg("--method=Full"), 2);
    assert!(other.contains("`method`"), "{other}");
    let said = succeed(&mut command());
    assert!(said.contains("continuing after step"), "{said}");
    assert_eq!(digest(&workshop.path("resumed")), digest(&workshop.path("whole")));
}

#[test]
fn recomputed_activations_change_nothing() {
    let workshop = Workshop::with_trajectories();
    let full = |name: &str| workshop.adapt_command(name, &format!("{name}-state"), 10);
    let adapters = |name: &str| {
        let mut command = workshop.train_command(name, &format!("{name}-state"), 6);
        command.arg("--method=LoRA").arg(workshop.flag("validation", "data.jsonl"));
        command
    };
    let commands: [&dyn Fn(&str) -> Command; 2] = [&full, &adapters];
    let flags = ["--gradient-checkpointing", "--gradient-checkpointing=true"];
    for ((method, command), flag) in ["full", "adapters"].into_iter().zip(commands).zip(flags) {
        let [kept, recomputed] = ["kept", "recomputed"].map(|name| format!("{method}-{name}"));
        succeed(&mut command(&kept));
        succeed(command(&recomputed).arg(flag));
        assert_eq!(digest(&workshop.path(&recomputed)), digest(&workshop.path(&kept)), "{method}");
    }
}
