//! GGUF: one file with configuration, tokenizer, chat template and weights. Safe Rust over byte slices; nothing in a file is believed.
//!
//! What is read becomes what the rest of the crate knows: a `config.json`, a `tokenizer.json`, and tensors under their Hugging Face names.

mod config;
mod error;
mod export;
mod export_config;
mod header;
mod metadata;
mod names;
mod pre_tokenizers;
mod reader;
mod rope;
mod tokenizer;
mod types;
mod vocabulary;
mod writer;

use std::ops::Range;

use serde_json::{Value, json};

pub use error::GgufError;
pub use export::{ExportDtype, export_gguf};
pub(super) use names::RowOrder;

use self::header::{Header, TensorInfo};
use self::vocabulary::Vocabulary;
use super::Dtype;
use crate::tokenizer::SpecialTexts;

/// A GGUF file in the terms of a checkpoint folder.
#[derive(Debug)]
pub(super) struct Contents {
    /// As `config.json`; `eos_token_id` is there too.
    pub(super) config: Value,
    /// As `tokenizer.json`.
    pub(super) tokenizer: Value,
    pub(super) chat_template: Option<String>,
    pub(super) special: SpecialTexts,
    pub(super) tensors: Vec<Tensor>,
}

/// One weight in the file.
#[derive(Debug)]
pub(super) struct Tensor {
    /// As Hugging Face calls it.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
    pub(super) bytes: Range<usize>,
    pub(super) order: RowOrder,
}

/// Reads everything but the weights, and checks where these are.
pub(super) fn read(file: &[u8]) -> Result<Contents, GgufError> {
    let header = Header::read(file)?;
    let factors = header.tensors.iter().find(|tensor| tensor.name == names::ROPE_FACTORS);
    let factors = factors.map(|tensor| tensor.dtype.to_f32(&file[tensor.bytes.clone()]));
    let mut config = config::config(&header, factors.as_deref())?;
    let vocabulary = Vocabulary::read(&header.metadata)?;
    config["bos_token_id"] = json!(vocabulary.bos);
    config["eos_token_id"] = match vocabulary.eos[..] {
        [] => Value::Null,
        [id] => json!(id),
        ref ids => json!(ids),
    };
    config["pad_token_id"] = json!(vocabulary.padding);
    let text = |id: Option<u32>| id.map_or_else(String::new, |id| vocabulary.text(id).to_owned());
    Ok(Contents {
        tokenizer: tokenizer::tokenizer(&header.metadata, &vocabulary)?,
        chat_template: header.metadata.text("tokenizer.chat_template")?.map(str::to_owned),
        special: SpecialTexts {
            bos: text(vocabulary.bos),
            eos: text(vocabulary.eos.first().copied()),
            ..SpecialTexts::default()
        },
        tensors: tensors(header, &config)?,
        config,
    })
}

fn tensors(header: Header<'_>, config: &Value) -> Result<Vec<Tensor>, GgufError> {
    let architecture = config::architecture(&header.metadata)?;
    let count = |field: &str| config[field].as_u64().unwrap_or(0) as usize;
    let heads = (count("num_attention_heads"), count("num_key_value_heads"));
    header
        .tensors
        .into_iter()
        .filter(|tensor| tensor.name != names::ROPE_FACTORS)
        .map(|tensor| translated(tensor, architecture, heads))
        .collect()
}

fn translated(tensor: TensorInfo, architecture: &str, heads: (usize, usize)) -> Result<Tensor, GgufError> {
    let TensorInfo { name: in_file, shape, dtype, bytes } = tensor;
    let name = names::to_hugging_face(&in_file);
    // A shape that contradicts the heads is refused later, where all shapes are checked.
    let order = Some(RowOrder::of(architecture, &name, heads.0, heads.1)).filter(|order| order.fits(shape[0]));
    let order = order.unwrap_or(RowOrder::Plain);
    // A bias has rows of one element.
    let row: usize = shape[1..].iter().product();
    let block = dtype.block_elements();
    if order != RowOrder::Plain && !row.is_multiple_of(block) {
        return Err(GgufError::BlockSize { tensor: in_file, row, dtype: dtype.name(), block });
    }
    Ok(Tensor { name, shape, dtype, bytes, order })
}
