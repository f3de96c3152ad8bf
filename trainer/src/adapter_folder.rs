//! The adapters of a model as PEFT reads them: a folder beside the merged weights that is small enough to be shared alone.

use std::path::Path;

use candle_core::Tensor;
use cllm_engine::differentiable::{AdaptedMatrix, AdapterOptions, DifferentiableModel};
use serde_json::{Value, json};

use crate::failure::Result;
use crate::model_folder::{StoredDtype, write_json, write_weights};
use crate::storage;

/// Its name in the folder of a checkpoint. Neither loading nor the digest looks into folders.
const NAME: &str = "adapter";
/// The matrices that have adapters, as every family calls them.
const MATRICES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Writes the folder into that of a checkpoint, where the model has adapters.
pub(crate) fn write(checkpoint: &Path, model: &DifferentiableModel) -> Result<()> {
    let Some(options) = model.adapter_options() else { return Ok(()) };
    let weights: Vec<_> = model.adapters()?.into_iter().flat_map(weights).collect();
    storage::write_folder(&checkpoint.join(NAME), |folder| {
        write_json(&folder.join("adapter_config.json"), &config(options))?;
        write_weights(&folder.join("adapter_model.safetensors"), &weights, StoredDtype::F32)
    })
}

/// Which model they belong to is for the reader to say: a path would be one on this machine.
fn config(options: AdapterOptions) -> Value {
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": null,
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": 0.0,
        "target_modules": MATRICES,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": false,
        "inference_mode": true,
    })
}

fn weights(matrix: AdaptedMatrix) -> [(String, Tensor); 2] {
    let module = matrix.name.trim_end_matches(".weight");
    [("A", matrix.a), ("B", matrix.b)]
        .map(|(half, tensor)| (format!("base_model.model.{module}.lora_{half}.weight"), tensor))
}
