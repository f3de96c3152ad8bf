//! What training changes: all weights of a model, or adapters beside them.

use cllm_engine::differentiable::{AdapterOptions, DifferentiableModel};
use rand::Rng;
use serde_json::{Value, json};

use crate::data_order::random;
use crate::failure::Result;
use crate::fine_tune::positive;

/// What is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[value(rename_all = "PascalCase")]
pub enum Method {
    /// All weights.
    Full,
    /// Low-rank adapters beside the matrices of the layers; embedding, norms, biases and the last linear layer stay as they are.
    #[value(name = "LoRA")]
    #[serde(rename = "LoRA")]
    Lora,
}

/// Which of the two, and how large adapters are.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct MethodArguments {
    /// What is learnt.
    #[arg(long, value_enum, default_value_t = Method::Full)]
    pub method: Method,
    /// Rank of the adapters of `--method=LoRA`.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub lora_rank: u32,
    /// What an adapter adds counts so many times, divided by the rank.
    #[arg(long, default_value_t = 16.0, value_parser = positive)]
    pub lora_alpha: f64,
}

impl MethodArguments {
    /// Adds what decides over the result; nothing where it is usual, so that runs that began before there was a choice go on.
    pub(crate) fn note(&self, settings: &mut Value) {
        if self.method == Method::Lora {
            settings["method"] = json!(self.method);
            settings["lora_rank"] = json!(self.lora_rank);
            settings["lora_alpha"] = json!(self.lora_alpha);
        }
    }

    /// The model with what is learnt as its variables. The seed decides where adapters begin.
    pub(crate) fn prepare(&self, model: DifferentiableModel, seed: u64) -> Result<DifferentiableModel> {
        match self.method {
            Method::Full => Ok(model),
            Method::Lora => {
                let options = AdapterOptions { rank: self.lora_rank as usize, alpha: self.lora_alpha };
                let mut random = random(seed, "adapters", 0);
                Ok(model.with_adapters(options, || random.random_range(-1.0..=1.0))?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        method: MethodArguments,
    }

    #[test]
    fn only_adapters_are_noted() {
        for (arguments, expected) in [
            (vec![], json!({})),
            (vec!["--method=Full", "--lora-rank=4"], json!({})),
            (vec!["--method=LoRA"], json!({ "method": "LoRA", "lora_rank": 32, "lora_alpha": 16.0 })),
            (
                vec!["--method=LoRA", "--lora-rank=4", "--lora-alpha=2.5"],
                json!({ "method": "LoRA", "lora_rank": 4, "lora_alpha": 2.5 }),
            ),
        ] {
            let line = Line::try_parse_from([vec!["line"], arguments].concat()).unwrap();
            let mut settings = json!({});
            line.method.note(&mut settings);
            assert_eq!(settings, expected);
        }
        for wrong in ["--method=Lora", "--lora-rank=0", "--lora-alpha=0"] {
            assert!(Line::try_parse_from(["line", wrong]).is_err(), "{wrong}");
        }
    }
}
