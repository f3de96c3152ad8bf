//! The arguments of every command, as clap reads them; nothing is done here.
#![expect(clippy::doc_markdown, reason = "these comments are printed as help, without markup")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cllm_engine::Device;

/// Trains, measures and serves consistency language models.
///
/// Installed as `kubectl-cllm` somewhere on PATH, the same binary answers to `kubectl cllm`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the Kubernetes objects that the operator makes of a file, as YAML
    Render(RenderArguments),
    /// Train and serve on this machine what a file describes: the same Pods, as child processes
    Up(UpArguments),
    /// Talk to a running model
    Chat(ChatArguments),
    /// Measure Jacobi against autoregressive decoding of one checkpoint, side by side
    Bench(BenchArguments),
    /// Write a checkpoint as one GGUF file, for llama.cpp and its kin
    ExportGguf(ExportGgufArguments),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `cllm render`.
#[derive(Debug, Args)]
pub struct RenderArguments {
    /// YAML documents of kind CllmTraining and CllmModel
    pub file: PathBuf,
}

/// `cllm up`.
#[derive(Debug, Args)]
pub struct UpArguments {
    /// YAML documents of kind CllmTraining and CllmModel
    pub file: PathBuf,
    /// Folder for claims, logs and state; a second run on the same folder goes on where the first one stopped
    /// [default: ./.cllm/<name of FILE without its ending>]
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Folder that stands for a persistent volume claim; repeatable, stronger than the annotation cllm.dev/local-claims
    #[arg(long = "claim", value_name = "NAME=DIR", value_parser = parse_folder)]
    pub claims: Vec<(String, PathBuf)>,
    /// Folder that stands for a Secret, one file for each key; repeatable
    #[arg(long = "secret", value_name = "NAME=DIR", value_parser = parse_folder)]
    pub secrets: Vec<(String, PathBuf)>,
    /// Folder that stands for a ConfigMap, one file for each key; repeatable
    #[arg(long = "config-map", value_name = "NAME=DIR", value_parser = parse_folder)]
    pub config_maps: Vec<(String, PathBuf)>,
    /// Stop with exit code 0 once everything is trained and every model has answered its readiness probe
    #[arg(long)]
    pub exit_when_ready: bool,
    /// text: a table; json: one object per line for every change of a status
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
    /// Port of the OpenAI API of the first model in FILE [default: 8000, or any free port if that is taken]
    #[arg(long, value_name = "N")]
    pub http_port: Option<u16>,
    /// Folder in which cllm-trainer and cllm-server are looked up first
    #[arg(long, value_name = "DIR", hide = true)]
    pub bin_dir: Option<PathBuf>,
}

/// `cllm chat`.
#[derive(Debug, Args)]
pub struct ChatArguments {
    /// Where the OpenAI API is
    #[arg(long, default_value = "http://127.0.0.1:8000/v1")]
    pub url: String,
    /// Name of the model [default: the first of /v1/models]
    #[arg(long)]
    pub model: Option<String>,
    /// Use /v1/completions (the prompt as it is) instead of /v1/chat/completions
    #[arg(long)]
    pub completion: bool,
    /// The most tokens of an answer
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// Draw tokens at this temperature, up to 2 [default: 0, always the most likely token]
    #[arg(long, value_name = "T", default_value_t = 0.0, hide_default_value = true)]
    pub temperature: f64,
    /// Draw as in the answer with this seed [default: another one each time; it is printed with the answer]
    #[arg(long, value_name = "N", requires = "temperature", allow_negative_numbers = true)]
    pub seed: Option<i64>,
    /// Key that the server asks for
    #[arg(long, env = "CLLM_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Print one JSON object per answer: prompt, text, usage, metrics
    #[arg(long)]
    pub json: bool,
    /// What to ask; without it every line of standard input is a prompt
    pub prompt: Option<String>,
}

/// `cllm bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Checkpoint: a folder with config.json, tokenizer.json and safetensors, or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// JSON lines with a `prompt` (or `messages`) each: .jsonl or .jsonl.gz
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Measure only the first N prompts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Rows of a Jacobi forward, one measurement each, and one of at most the most of them, as many as pay
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32",
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub block_size: Vec<u32>,
    /// The most tokens generated for one prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_new_tokens: u32,
    /// Prompts that are decoded at the same time, in shared forwards; rates are those of all together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub concurrency: u32,
    /// Prompts that wait for one of those to end and take its place, as in a busy server; then the next as many of both begin
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    pub queue: u32,
    /// Measure Jacobi with guesses from prompt lookup too
    #[arg(long)]
    pub lookup: bool,
    /// Measure only autoregressive decoding and as many rows as pay, not the block sizes one by one
    #[arg(long)]
    pub adaptive_only: bool,
    /// What computes: cpu, cuda (the first GPU) or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub device: Device,
    /// Write the measurement to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the tokens to this file: a line {"prompt": [ids], "tokens": [ids], "arms": [what they took each]} for each prompt
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// How the measurement is printed
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `cllm export-gguf`.
#[derive(Debug, Args)]
pub struct ExportGgufArguments {
    /// Checkpoint: a folder with config.json, tokenizer.json and safetensors, or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// The GGUF file to write; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// How matrices are stored; norms are always f32
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: GgufDtype,
}

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum GgufDtype {
    /// 32 bits.
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits.
    F16,
    /// Blocks of 32 elements of 8 bits.
    #[value(name = "q8_0")]
    Q8,
}

fn parse_folder(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok((name.to_owned(), PathBuf::from(folder))),
        _ => Err(format!("'{text}' is not NAME=DIR; write for example data=./data")),
    }
}
