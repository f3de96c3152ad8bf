//! What the training of a `CllmTraining` changes: all weights, or adapters beside them.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// What is learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrainingMethod {
    /// All weights.
    #[default]
    Full,
    /// Low-rank adapters beside the matrices of the layers, merged into the result.
    #[serde(rename = "LoRA")]
    Lora,
}

impl TrainingMethod {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "Full",
            Self::Lora => "LoRA",
        }
    }
}

/// The adapters of method LoRA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoraOptions {
    /// How many directions an adapter has: more of them learn more and take more memory.
    #[serde(default = "default_rank")]
    #[schemars(range(min = 1, max = 65_536))]
    pub rank: u32,

    /// What an adapter adds counts alpha / rank times, a decimal as a string.
    #[serde(default = "default_alpha")]
    #[schemars(length(min = 1, max = 19))]
    #[x_kube(validation = rules::decimal())]
    pub alpha: String,
}

impl Default for LoraOptions {
    fn default() -> Self {
        Self { rank: default_rank(), alpha: default_alpha() }
    }
}

fn default_rank() -> u32 {
    32
}
fn default_alpha() -> String {
    "16".to_owned()
}
