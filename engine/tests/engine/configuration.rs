//! `config.json`: what is read, what is assumed, what is refused.

use cllm_engine::ModelConfig;
use cllm_engine::checkpoint::{EosTokenIds, Family, LayerType, RopeScaling};
use serde_json::{Value, json};

use crate::support::{config, families, folder, model};

const LAYERS: usize = 3;

/// A minimal configuration with some fields set.
fn read(fields: &Value) -> Result<ModelConfig, String> {
    let mut all = json!({
        "model_type": "llama", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": null, "head_dim": null,
    });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ModelConfig::from_json(&all.to_string()).map_err(|error| error.to_string())
}

#[test]
fn what_cannot_be_computed_is_refused_with_a_sentence() {
    let llama3 =
        |high: f64| json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": high });
    for (fields, parts) in [
        (json!({ "model_type": "mamba" }), &["`model_type` is \"mamba\"", "\"llama\", \"mistral\""][..]),
        (json!({ "model_type": null }), &["`model_type` is null"]),
        (json!({ "hidden_act": "gelu" }), &["`hidden_act` is \"gelu\"", "silu"]),
        (json!({ "mlp_bias": true }), &["`mlp_bias` is true"]),
        (json!({ "model_type": "mistral", "attention_bias": true }), &["`attention_bias` is true", "false"]),
        (json!({ "quantization_config": { "bits": 4 } }), &["`quantization_config`", "null"]),
        (json!({ "auto_map": { "AutoModel": "code.Model" } }), &["`auto_map`", "never run"]),
        (json!({ "use_mrope": true }), &["`use_mrope` is true"]),
        (json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } }), &["`rope_scaling`", "yarn", "\"llama3\""]),
        (json!({ "rope_scaling": { "type": "dynamic", "factor": 2.0 } }), &["`rope_scaling`", "dynamic"]),
        (json!({ "rope_scaling": { "type": "linear" } }), &["`rope_scaling`", "`factor`"]),
        (json!({ "rope_scaling": { "type": "linear", "factor": 0.5 } }), &["factor` is 0.5", "at least 1"]),
        (json!({ "rope_scaling": 4 }), &["`rope_scaling` is 4"]),
        (json!({ "rope_scaling": llama3(0.5) }), &["high_freq_factor` is 0.5", "`low_freq_factor`, which is 1"]),
        (json!({ "rope_parameters": { "rope_type": "yarn", "rope_theta": 1e4 } }), &["`rope_parameters`", "yarn"]),
        (json!({ "rope_parameters": { "full_attention": { "rope_type": "default" } } }), &["`rope_parameters`"]),
        (json!({ "partial_rotary_factor": 0.5 }), &["`partial_rotary_factor` is 0.5", "whole heads"]),
        (json!({ "sliding_window": 8 }), &["`sliding_window` is 8", "null"]),
        (json!({ "model_type": "mistral", "sliding_window": 0 }), &["`sliding_window` is 0", "at least 1"]),
        (
            json!({ "model_type": "qwen3", "layer_types": (vec!["sliding_attention"; LAYERS]) }),
            &["`layer_types`", "in use"],
        ),
        (
            json!({ "model_type": "qwen3", "layer_types": (vec!["linear_attention"; LAYERS]) }),
            &["`layer_types`", "linear_attention"],
        ),
        (json!({ "layer_types": ["full_attention"] }), &["`layer_types`", "one for each layer"]),
        (
            json!({ "model_type": "mistral", "layer_types": ["full_attention", "sliding_attention", "full_attention"] }),
            &["`layer_types`", "mistral"],
        ),
        (json!({ "head_dim": 7 }), &["`head_dim` is 7", "even"]),
        (json!({ "head_dim": 512 }), &["`head_dim` is 512", "256"]),
        (json!({ "num_key_value_heads": 3 }), &["`num_key_value_heads` is 3", "divisor", "4"]),
        (json!({ "num_attention_heads": 0 }), &["0"]),
        (json!({ "hidden_size": 30 }), &["`hidden_size` is 30", "multiple of `num_attention_heads`"]),
        (json!({ "hidden_size": -1 }), &["not a valid model configuration"]),
        (json!({ "vocab_size": null }), &["not a valid model configuration"]),
        (json!({ "rms_norm_eps": 0.0 }), &["`rms_norm_eps` is 0", "positive"]),
        (json!({ "eos_token_id": 300 }), &["`eos_token_id` is 300", "300"]),
    ] {
        let message = read(&fields).expect_err(&fields.to_string());
        assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?} in: {message}");
    }
    assert!(ModelConfig::from_json("[1]").is_err());
}

#[test]
fn fields_that_a_config_may_leave_out_have_their_usual_values() {
    let config = read(&json!({ "rope_scaling": null, "torch_dtype": "float32", "pad_token_id": -1 })).unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim, config.max_position_embeddings), (4, 8, 2048));
    assert_eq!((config.rope_theta, config.tie_word_embeddings, config.eos_token_id), (10_000.0, false, None));
    assert_eq!((config.rms_norm_eps, config.pad_token_id), (1e-6, None));

    let minimal = |model_type: &str| {
        json!({ "model_type": model_type, "vocab_size": 300, "hidden_size": 128, "intermediate_size": 8,
                "num_hidden_layers": 2, "num_attention_heads": 32 })
    };
    for (model_type, kv_heads, head_dim, context) in
        [("llama", 32, 4, 2048), ("mistral", 8, 4, 131_072), ("qwen2", 32, 4, 32_768), ("qwen3", 32, 128, 32_768)]
    {
        let config = ModelConfig::from_json(&minimal(model_type).to_string()).unwrap();
        let found = (config.num_key_value_heads, config.head_dim, config.max_position_embeddings);
        assert_eq!(found, (kv_heads, head_dim, context), "{model_type}");
        let window = (model_type == "mistral").then_some(4096);
        assert_eq!(config.layer(1).window, window, "{model_type}");
    }
}

#[test]
fn rotary_frequencies_are_read_from_old_and_new_fields() {
    let llama3 = json!({ "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192 });
    let with = |kind: &str, value: &str, base: &Value| {
        let mut object = base.clone();
        object[kind] = json!(value);
        object
    };
    let linear = Some(RopeScaling::Linear { factor: 4.0 });
    let scaled = Some(RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    });
    for (fields, theta, scaling) in [
        (json!({ "rope_parameters": { "rope_type": "default", "rope_theta": 5e5 } }), 5e5, None),
        (json!({ "rope_theta": 3e5, "rope_parameters": null }), 3e5, None),
        (json!({ "rope_theta": 1e5, "rope_scaling": { "type": "linear", "factor": 4.0 } }), 1e5, linear),
        (json!({ "rope_parameters": { "rope_type": "linear", "factor": 4, "rope_theta": 1e5 } }), 1e5, linear),
        (json!({ "rope_theta": 5e5, "rope_scaling": with("rope_type", "llama3", &llama3) }), 5e5, scaled),
        (json!({ "rope_theta": 5e5, "rope_scaling": with("type", "llama3", &llama3) }), 5e5, scaled),
        (json!({ "rope_parameters": with("rope_type", "llama3", &llama3) }), 1e4, scaled),
    ] {
        let config = read(&fields).unwrap();
        assert_eq!((config.rope_theta, config.rope_scaling), (theta, scaling), "{fields}");
    }
}

#[test]
fn windows_are_those_of_the_layers_that_have_one() {
    use LayerType::{FullAttention, SlidingAttention};
    let qwen = |fields: Value| {
        let mut all = json!({ "model_type": "qwen2", "use_sliding_window": true, "sliding_window": 9 });
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let stated = [SlidingAttention, FullAttention, SlidingAttention];
    for (fields, windows) in [
        (json!({ "model_type": "mistral", "sliding_window": 9 }), [Some(9); LAYERS]),
        (json!({ "model_type": "mistral", "sliding_window": null }), [None; LAYERS]),
        (
            json!({ "model_type": "mistral", "sliding_window": null, "layer_types": (vec!["full_attention"; LAYERS]) }),
            [None; LAYERS],
        ),
        (qwen(json!({ "use_sliding_window": false, "max_window_layers": 0 })), [None; LAYERS]),
        (qwen(json!({ "max_window_layers": 2 })), [None, None, Some(9)]),
        (qwen(json!({ "max_window_layers": 28 })), [None; LAYERS]),
        (qwen(json!({ "max_window_layers": 2, "layer_types": stated })), [Some(9), None, Some(9)]),
        (qwen(json!({ "model_type": "qwen3", "max_window_layers": 0 })), [Some(9); LAYERS]),
    ] {
        let config = read(&fields).unwrap();
        let found: Vec<_> = (0..LAYERS).map(|index| config.layer(index).window).collect();
        assert_eq!(found, windows, "{fields}");
    }
}

#[test]
fn what_is_written_is_read() {
    for config in families().into_iter().chain([config()]) {
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(ModelConfig::from_json(&written.to_string()).unwrap(), config, "{written}");
        assert_eq!(written["model_type"], config.family.model_type());
        assert_eq!(written["architectures"], json!([config.family.architecture()]));
        // Mistral takes 4096 where the field is absent
        assert!(written.get("sliding_window").is_some());
    }
}

/// The fields of the checkpoints that the authors of CLLM published, sizes shrunk.
#[test]
fn published_consistency_models_are_read() {
    let math = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 86,
        "max_position_embeddings": 4096, "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 4,
        "pretraining_tp": 1, "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 10000.0, "attention_bias": false,
        "tie_word_embeddings": false, "torch_dtype": "float32", "transformers_version": "4.36.2", "use_cache": false,
        "vocab_size": 320,
    });
    let mut spider = math.clone();
    for (field, value) in [
        ("bos_token_id", json!(313)),
        ("eos_token_id", json!(321)),
        ("vocab_size", json!(322)),
        ("rms_norm_eps", json!(1e-6)),
        ("rope_theta", json!(100_000)),
        ("rope_scaling", json!({ "factor": 4.0, "type": "linear" })),
        ("max_position_embeddings", json!(16_384)),
    ] {
        spider[field] = value;
    }
    let mut forcing = spider.clone();
    for (field, value) in [
        ("architectures", json!(["Qwen2ForCausalLM"])),
        ("model_type", json!("qwen2")),
        ("num_key_value_heads", json!(2)),
        ("rope_scaling", json!(null)),
        ("sliding_window", json!(null)),
        ("use_sliding_window", json!(false)),
        ("max_window_layers", json!(28)),
        ("use_mrope", json!(false)),
        ("eos_token_id", json!([320, 321])),
    ] {
        forcing[field] = value;
    }
    for (text, family, scaling, eos) in [
        (math, Family::Llama, None, EosTokenIds::One(2)),
        (spider, Family::Llama, Some(RopeScaling::Linear { factor: 4.0 }), EosTokenIds::One(321)),
        (forcing, Family::Qwen2, None, EosTokenIds::Several(vec![320, 321])),
    ] {
        let config = ModelConfig::from_json(&text.to_string()).unwrap();
        assert_eq!((config.family, config.rope_scaling, config.eos_token_id.clone()), (family, scaling, Some(eos)));
        let loaded = model(&config, 1, 1, cllm_engine::InstructionSet::detect());
        assert_eq!(loaded.eos_token_ids(), config.eos_token_id.as_ref().unwrap().as_slice());
        let path = folder(&config, 1);
        let config_file = path.path().join("config.json");
        assert_eq!(ModelConfig::from_json(&std::fs::read_to_string(config_file).unwrap()).unwrap(), config);
    }
}
