//! What is exported as GGUF is the same model when it is opened again.

use std::fs;
use std::path::Path;

use cllm_engine::checkpoint::{Dtype, EosTokenIds, ExportDtype, Family, LayerType, RopeScaling, export_gguf};
use cllm_engine::{Checkpoint, ComputeOptions, KvCache, Model, ModelConfig, Workspace};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gguf::{byte_level, open, sentence_piece};
use crate::gguf_file::GgufFile;
use crate::support::{self, config, families, folder};

const TEXT: &str = "I'm 1111 days\n\n  naïve, !a 日本語 🦀!";

fn export(checkpoint: &Checkpoint, dtype: ExportDtype) -> (TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    export_gguf(checkpoint, &folder.path().join("model.gguf"), dtype).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    let opened = Checkpoint::open(folder.path()).unwrap();
    (folder, opened)
}

fn logits(checkpoint: &Checkpoint) -> Vec<f32> {
    let model = Model::load(checkpoint, ComputeOptions { threads: 1, ..ComputeOptions::default() }).unwrap();
    let tokens: Vec<u32> = (0..40).map(|i| i * i % 250).collect();
    let (mut workspace, mut cache) = (Workspace::new(&model), KvCache::new(&model, tokens.len()));
    let logits = model.forward(&mut workspace, &mut cache, &tokens).unwrap();
    (0..tokens.len()).flat_map(|row| logits.row(row).to_vec()).collect()
}

/// What a file is expected to say, written down byte by byte: type, length, value.
fn holds(file: &[u8], key: &str, value: &[u8]) -> bool {
    let expected = [&(key.len() as u64).to_le_bytes(), key.as_bytes(), value].concat();
    file.windows(expected.len()).any(|window| window == expected)
}

#[test]
fn families_are_written_under_the_names_that_others_read() {
    let (text, integer, float, truths) = (8_u32, 4_u32, 6_u32, [9_u32.to_le_bytes(), 7_u32.to_le_bytes()].concat());
    for (index, config) in families().into_iter().enumerate() {
        let original = folder(&config, index as u64);
        let (folder, exported) = export(&Checkpoint::open(original.path()).unwrap(), ExportDtype::F32);
        let original = Checkpoint::open(original.path()).unwrap();
        assert_eq!(exported.config(), original.config());
        assert_eq!(logits(&exported), logits(&original), "bit for bit");
        let file = fs::read(folder.path().join("model.gguf")).unwrap();
        let architecture = match config.family {
            Family::Llama | Family::Mistral => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        };
        let name = [&text.to_le_bytes()[..], &5_u64.to_le_bytes(), architecture.as_bytes()].concat();
        assert!(holds(&file, "general.architecture", &name));
        let key = |name: &str| format!("{architecture}.{name}");
        let has_tensor = |name: &str| file.windows(name.len()).any(|window| window == name.as_bytes());
        let layer = config.layer(0);
        assert_eq!(has_tensor("blk.1.attn_q.bias"), layer.qkv_bias);
        assert_eq!(has_tensor("blk.1.attn_output.bias"), layer.output_bias);
        assert_eq!(has_tensor("blk.1.attn_k_norm.weight"), layer.head_norms);
        let is_llama3 = matches!(config.rope_scaling, Some(RopeScaling::Llama3 { .. }));
        assert_eq!(has_tensor("rope_freqs.weight"), is_llama3);
        let factor = [float.to_le_bytes(), 4_f32.to_le_bytes()].concat();
        let is_linear = matches!(config.rope_scaling, Some(RopeScaling::Linear { .. }));
        assert_eq!(holds(&file, &key("rope.scaling.factor"), &factor), is_linear);
        if let Some(window) = &config.sliding_window {
            let positions = [integer.to_le_bytes(), (window.positions as u32).to_le_bytes()].concat();
            assert!(holds(&file, &key("attention.sliding_window"), &positions));
            let slides = window.layer_types.iter().map(|kind| u8::from(*kind == LayerType::SlidingAttention));
            let pattern: Vec<u8> = truths.iter().copied().chain(2_u64.to_le_bytes()).chain(slides).collect();
            let is_written = holds(&file, &key("attention.sliding_window_pattern"), &pattern);
            assert_eq!(is_written, config.family != Family::Mistral);
        }
    }
}

fn configs() -> [ModelConfig; 3] {
    let ends = Some(EosTokenIds::Several(vec![269, 3]));
    [
        config(),
        ModelConfig { bos_token_id: Some(268), eos_token_id: ends, tie_word_embeddings: true, ..config() },
        ModelConfig { hidden_size: 64, intermediate_size: 96, head_dim: 16, rope_theta: 12_345.0, ..config() },
    ]
}

#[test]
fn an_exported_model_has_the_same_logits_tokens_and_template() {
    for (seed, config) in configs().into_iter().enumerate() {
        let folder = folder(&config, seed as u64);
        let original = Checkpoint::open(folder.path()).unwrap();
        let (_folder, exported) = export(&original, ExportDtype::F32);
        assert_eq!(exported.config(), original.config());
        assert_eq!(exported.eos_token_ids(), original.eos_token_ids());
        assert_eq!(exported.chat_template(), original.chat_template());
        let tokens = |checkpoint: &Checkpoint| checkpoint.tokenizer().encode(TEXT).unwrap();
        assert_eq!(tokens(&exported), tokens(&original));
        assert_eq!(logits(&exported), logits(&original), "bit for bit");
    }
}

#[test]
fn smaller_types_keep_what_they_can_hold() {
    let [uneven, _, even] = configs();
    let q_proj = "model.layers.1.self_attn.q_proj.weight";
    for (config, dtype, stored, tolerance) in [
        (&even, ExportDtype::Bf16, Dtype::Bf16, 1.0 / 256.0),
        (&even, ExportDtype::F16, Dtype::F16, 1.0 / 2048.0),
        // Half a step of 127 of the largest element, and the rounding of the scale to 16 bits.
        (&even, ExportDtype::Q8_0, Dtype::Q8_0, 1.0 / 254.0 + 1.0 / 2048.0),
        (&uneven, ExportDtype::Q8_0, Dtype::F16, 1.0 / 2048.0),
    ] {
        let folder = folder(config, 9);
        let original = Checkpoint::open(folder.path()).unwrap();
        let (_folder, exported) = export(&original, dtype);
        assert_eq!(exported.tensors().get(q_proj).unwrap().dtype, stored);
        assert_eq!(exported.tensors().get("model.norm.weight").unwrap().dtype, Dtype::F32);
        for (name, _) in config.tensor_shapes() {
            let [found, expected] = [&exported, &original].map(|c| c.tensors().get(&name).unwrap().to_f32());
            for (found, expected) in found.chunks(32).zip(expected.chunks(32)) {
                let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= tolerance * largest;
                assert!(found.iter().zip(expected).all(near), "{name}: {found:?} instead of {expected:?}");
            }
        }
    }
}

#[test]
fn every_named_pre_tokenizer_is_recognized_again() {
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "deepseek-coder", "default"] {
        let original = open(&GgufFile::llama(byte_level(pre), 262)).unwrap();
        let (folder, exported) = export(&original, ExportDtype::F32);
        let tokens = |checkpoint: &Checkpoint| checkpoint.tokenizer().encode(TEXT).unwrap();
        assert_eq!(tokens(&exported), tokens(&original), "{pre}");
        let bytes = fs::read(folder.path().join("model.gguf")).unwrap();
        let named = format!("tokenizer.ggml.pre\u{8}\0\0\0{}\0\0\0\0\0\0\0{pre}", char::from(pre.len() as u8));
        assert!(bytes.windows(named.len()).any(|window| window == named.as_bytes()), "{pre}");
    }
}

/// Exports a random checkpoint whose tokenizer is changed first.
fn check_refused(edit: impl FnOnce(&mut Value), parts: &[&str]) {
    let folder = folder(&config(), 1);
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut tokenizer);
    fs::write(&path, tokenizer.to_string()).unwrap();
    check_export_refused(&Checkpoint::open(folder.path()).unwrap(), ExportDtype::F32, parts);
}

fn check_export_refused(checkpoint: &Checkpoint, dtype: ExportDtype, parts: &[&str]) {
    let target = tempfile::tempdir().unwrap();
    let message = export_gguf(checkpoint, &target.path().join("a.gguf"), dtype).unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?} in: {message}");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "nothing half written is left");
}

#[test]
fn what_gguf_cannot_express_is_refused() {
    check_refused(|t| t["pre_tokenizer"] = json!({ "type": "Whitespace" }), &["no name in GGUF", "gpt-2"]);
    check_refused(|t| t["normalizer"] = json!({ "type": "Lowercase" }), &["no name in GGUF"]);
    check_export_refused(
        &open(&GgufFile::llama(sentence_piece(), 14)).unwrap(),
        ExportDtype::F32,
        &["no byte-level BPE"],
    );
    let several = ModelConfig { eos_token_id: Some(EosTokenIds::Several(vec![1, 2, 3, 4])), ..config() };
    let folder = folder(&several, 1);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    check_export_refused(&checkpoint, ExportDtype::F32, &["4 tokens that end a text"]);
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 2.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 32,
    };
    let scaled = support::folder(&ModelConfig { rope_scaling: Some(llama3), ..config() }, 1);
    let scaled = Checkpoint::open(scaled.path()).unwrap();
    check_export_refused(&scaled, ExportDtype::F32, &["low_freq_factor 2 ", "only 1 and 4"]);
    let nowhere = export_gguf(&checkpoint, Path::new("/nonexistent/a.gguf"), ExportDtype::F32);
    assert!(nowhere.is_err());
}

#[test]
fn weights_beyond_f16_are_refused_by_name() {
    let mut file = GgufFile::llama(byte_level("gpt-2"), 262);
    file.tensors[2].data[..4].copy_from_slice(&70_000_f32.to_le_bytes());
    let checkpoint = open(&file).unwrap();
    check_export_refused(&checkpoint, ExportDtype::F16, &["q_proj.weight` holds 70000, which F16 cannot", "BF16"]);
    assert_eq!(logits(&export(&checkpoint, ExportDtype::F32).1), logits(&checkpoint));
}
