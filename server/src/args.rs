//! The command line of `cllm-server`. Parsing only: what the values mean is decided where they are used.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, ValueEnum};
use cllm_engine::Device;
use cllm_storage::ModelAccess;

use crate::gate::OnMissedGate;

/// Serves one checkpoint over the OpenAI API, decoding by Jacobi iteration.
#[derive(Clone, Debug, Parser)]
#[command(name = "cllm-server", version)]
pub struct Args {
    /// The checkpoint: a folder with config.json, tokenizer.json and safetensors, a GGUF file, or `hf://ORG/NAME[/FILE.gguf][@REVISION]`,
    /// `s3://BUCKET/PREFIX`, `oci://REGISTRY/REPOSITORY[:TAG|@DIGEST]`, which is downloaded into --cache.
    #[arg(long, value_name = "DIR|URI")]
    pub model: String,

    /// Where downloads are kept; several servers may share it.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// The way to the checkpoint.
    #[command(flatten)]
    pub access: ModelAccess,

    /// The digest that the checkpoint must have [default: any]; with another one the server ends.
    #[arg(long, value_name = "sha256:HEX", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub digest: Option<String>,

    /// A file for the last words; in a Pod, /dev/termination-log.
    #[arg(long, value_name = "PATH")]
    pub termination_message: Option<PathBuf>,

    /// The name of the model in the API: requests must name it.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub served_name: String,

    /// The address that both listeners bind.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: IpAddr,

    /// The address of /metrics, /status and the probes, where that is another one: a sidecar's API is for its own Pod, its probes are for
    /// the kubelet [default: that of --host].
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_host: Option<IpAddr>,

    /// The port of the OpenAI API; 0 takes a free one.
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    pub http_port: u16,

    /// The port of /metrics, /status and the probes; 0 takes a free one.
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    pub metrics_port: u16,

    /// How tokens are found: both give the same tokens.
    #[arg(long, default_value = "Jacobi", value_enum, ignore_case = true)]
    pub strategy: StrategyName,

    /// Most tokens of a Jacobi forward; all of them in every forward with --adaptive=false.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub block_size: u32,

    /// Give each forward as many tokens as pay on this machine for this text, at most --block-size and at most 16: what forwards cost is
    /// timed at the start, what guesses bring is counted in every text.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub adaptive: bool,

    /// Also guess by looking the last tokens up in the prompt and the answer.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub lookup: bool,

    /// Tokens of prompt and answer together [default: what the checkpoint was made for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub context_length: Option<u32>,

    /// Memory for the keys and values of all requests together, in MiB [default: what --max-concurrent-requests need for the whole
    /// context, at most half of the memory that is free once the model is loaded]. It is taken as it is needed.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub kv_cache_mib: Option<u32>,

    /// Compute equal beginnings of prompts once, as long as the memory for keys and values has room for them.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub prefix_cache: bool,

    /// Requests that are decoded at the same time.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_concurrent_requests: u16,

    /// Requests that may wait for a slot before the next is refused with 429.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub max_queued_requests: u16,

    /// Most generated tokens per second, of all requests together [default: as many as the machine can]. Forwards wait where they would
    /// deliver more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens_per_second: Option<u32>,

    /// How long running requests may go on after SIGTERM.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub drain_seconds: u64,

    /// The least speed-up over autoregressive decoding, a decimal like 1.5. It is measured before the server answers: at most 16 prompts
    /// of 64 tokens, both ways in turns.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub min_speedup: Option<String>,

    /// What to do below --min-speedup.
    #[arg(long, default_value = "FallBackToAutoregressive", value_enum, ignore_case = true, value_name = "ACTION")]
    pub on_missed_gate: OnMissedGate,

    /// A file with the prompts to measure with, one a line: plain text, or JSON with "prompt" or "messages" [default: a few general ones].
    #[arg(long, value_name = "PATH")]
    pub prompts: Option<PathBuf>,

    /// Threads of a forward [default: the processors that this process may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,

    /// What computes: cpu, cuda (the first GPU) or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub device: Device,

    /// A file with the API keys that clients may send, one a line. Without it no key is asked for.
    #[arg(long, value_name = "PATH")]
    pub api_key_file: Option<PathBuf>,
}

/// The values of `--strategy`, spelled as in the `CllmModel` resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StrategyName {
    /// Several tokens a forward.
    #[value(name = "Jacobi")]
    Jacobi,
    /// One token a forward.
    #[value(name = "Autoregressive")]
    Autoregressive,
}

impl StrategyName {
    /// As `/status` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jacobi => "Jacobi",
            Self::Autoregressive => "Autoregressive",
        }
    }
}

impl Args {
    /// Where metrics and probes answer.
    pub fn metrics_host(&self) -> IpAddr {
        self.metrics_host.unwrap_or(self.host)
    }

    /// [`Args::drain_seconds`] as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// Requests that may be in the server at once, waiting or running.
    pub fn capacity(&self) -> usize {
        usize::from(self.max_concurrent_requests) + usize::from(self.max_queued_requests)
    }
}

/// Kept as written, for pages and messages.
fn ratio(text: &str) -> Result<String, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(text.to_owned()),
        _ => Err("write a decimal that is not negative, like 1.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_documented_defaults() {
        let args = Args::try_parse_from(["cllm-server", "--model=m", "--served-name=n"]).unwrap();
        assert_eq!((args.http_port, args.metrics_port), (8000, 9090));
        assert_eq!((args.strategy, args.block_size), (StrategyName::Jacobi, 16));
        assert!(args.adaptive && args.lookup);
        assert_eq!((args.capacity(), args.drain()), (72, Duration::from_secs(60)));
        assert!(args.host.is_loopback() && args.context_length.is_none() && args.threads.is_none());
        assert_eq!(args.max_tokens_per_second, None);
    }

    #[test]
    fn what_is_refused() {
        for wrong in [
            "--min-speedup=fast",
            "--min-speedup=-1",
            "--on-missed-gate=x",
            "--digest=",
            "--block-size=0",
            "--context-length=1",
            "--max-concurrent-requests=0",
            "--max-tokens-per-second=0",
            "--max-tokens-per-second=1.5",
            "--threads=0",
            "--device=gpu",
            "--strategy=x",
            "--adaptive",
            "--adaptive=maybe",
        ] {
            assert!(Args::try_parse_from(["cllm-server", "--model=m", "--served-name=n", wrong]).is_err(), "{wrong}");
        }
        assert!(Args::try_parse_from(["cllm-server", "--model=m", "--served-name="]).is_err());
    }

    #[test]
    fn lookup_and_adaptive_take_a_value() {
        let fixed = ["cllm-server", "--model=m", "--served-name=n"];
        for (extra, lookup, adaptive) in [("--lookup=false", false, true), ("--adaptive=false", true, false)] {
            let args = Args::try_parse_from(fixed.iter().chain(&[extra])).unwrap();
            assert_eq!((args.lookup, args.adaptive), (lookup, adaptive), "{extra}");
        }
    }
}
