//! Small random checkpoints, complete and loadable, for the tests of every room.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::checkpoint::{CheckpointError, ModelConfig};

/// Enough of a chat template for a test: one line a message.
const CHAT_TEMPLATE: &str =
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: ";

/// Writes a checkpoint of any family with random f32 weights, a byte-level tokenizer without merges and a chat template into `folder`, which is
/// created. The same configuration and seed give the same bytes.
///
/// Ids of the tokenizer: the configuration's BOS and EOS, and the 256 bytes in order on the ids that these leave free. A vocabulary that is
/// too small for all bytes has only the first ones.
pub fn random_checkpoint(folder: &Path, config: &ModelConfig, seed: u64) -> Result<(), CheckpointError> {
    let config_path = folder.join("config.json");
    config.validate().map_err(|source| CheckpointError::Config { path: config_path.clone(), source })?;
    fs::create_dir_all(folder).map_err(CheckpointError::access(folder))?;
    let model = serde_json::to_value(config).map_err(|e| CheckpointError::corrupt(&config_path, e))?;
    write_json(&config_path, &model)?;
    write_json(&folder.join("generation_config.json"), &json!({ "eos_token_id": config.eos_token_id }))?;
    write_json(&folder.join("tokenizer.json"), &byte_tokenizer(config))?;
    let described = json!({ "chat_template": CHAT_TEMPLATE, "bos_token": BOS, "eos_token": EOS });
    write_json(&folder.join("tokenizer_config.json"), &described)?;
    write_weights(&folder.join("model.safetensors"), config, seed)
}

const BOS: &str = "<|begin|>";
const EOS: &str = "<|end|>";

fn write_json(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    fs::write(path, format!("{value:#}\n")).map_err(CheckpointError::access(path))
}

fn write_weights(path: &Path, config: &ModelConfig, seed: u64) -> Result<(), CheckpointError> {
    let mut random = SplitMix(seed);
    let weights: Vec<(String, Vec<usize>, Vec<u8>)> = config
        .tensor_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let weights = random_weights(&mut random, &name, &shape);
            let bytes = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = weights
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| CheckpointError::corrupt(path, e))?;
    let bytes = safetensors::serialize(views, None).map_err(|e| CheckpointError::corrupt(path, e))?;
    fs::write(path, bytes).map_err(CheckpointError::access(path))
}

/// Norms near one, biases near zero; matrices such that activations keep their size, large enough for picks to depend on the whole context.
fn random_weights(random: &mut SplitMix, name: &str, shape: &[usize]) -> Vec<f32> {
    match *shape {
        [outputs, inputs] => {
            let scale = 3.0 / (inputs as f32).sqrt();
            (0..outputs * inputs).map(|_| random.symmetric() * scale).collect()
        }
        _ if name.rsplit('.').next() == Some("bias") => {
            (0..shape.iter().product()).map(|_| random.symmetric()).collect()
        }
        _ => (0..shape.iter().product()).map(|_| 1.0 + 0.2 * random.symmetric()).collect(),
    }
}

fn byte_tokenizer(config: &ModelConfig) -> Value {
    let eos = config.eos_token_id.as_ref().map_or(&[][..], |eos| eos.as_slice());
    let special: Vec<(u32, String)> = config
        .bos_token_id
        .iter()
        .map(|&id| (id, BOS.to_owned()))
        .chain(eos.iter().enumerate().map(|(i, &id)| (id, if i == 0 { EOS.to_owned() } else { format!("<|end{i}|>") })))
        .collect();
    let free = (0..config.vocab_size as u32).filter(|id| special.iter().all(|(taken, _)| taken != id));
    let bytes = byte_characters().zip(free).map(|(character, id)| (character.to_string(), id.into()));
    // Special tokens stand in the vocabulary too: otherwise `tokenizers` gives them ids of its own.
    let named = special.iter().map(|(id, content)| (content.clone(), (*id).into()));
    let vocabulary: serde_json::Map<_, _> = bytes.chain(named).collect();
    let added: Vec<Value> = special
        .iter()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                   "vocab": vocabulary, "merges": [] },
    })
}

/// The printable character that byte-level tokenizers write for each byte: itself, or one from 256 on.
fn byte_characters() -> impl Iterator<Item = char> {
    let mut next = 256_u32;
    (0..=255_u8).map(move |byte| {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { u32::from(byte) } else { next };
        next += u32::from(!printable);
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

/// Steele, Lea and Flood's generator: tiny, and the same everywhere.
struct SplitMix(u64);

/// Between the states of the generator.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The number that the generator gives in that state: every bit of the state changes about half of its bits.
pub(crate) fn mix(state: u64) -> u64 {
    let mixed = state.wrapping_add(STEP);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl SplitMix {
    fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        number
    }

    /// Uniform between -1 and 1.
    fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }
}
