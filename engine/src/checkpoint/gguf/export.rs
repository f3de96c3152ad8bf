//! A checkpoint of any family as one GGUF file that llama.cpp and its kin load: byte-level BPE, chat template.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::f16;
use serde_json::Value;

use super::GgufError;
use super::names::{self, RowOrder};
use super::pre_tokenizers::{PRE_TOKENIZERS, PreTokenizer};
use super::vocabulary::Kind;
use super::writer::{Planned, Written, write_header, write_tensor};
use super::{export_config, rope};
use crate::checkpoint::{Checkpoint, CheckpointError, Dtype};
use crate::kernels::Storage;

/// How the matrices of an exported model are stored. Norms are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportDtype {
    /// 32 bits.
    F32,
    /// 16 bits, the exponent range of f32.
    Bf16,
    /// 16 bits, finer but with a small exponent range: weights beyond 65,504 are refused.
    F16,
    /// Blocks of 32 elements of 8 bits with one scale. A matrix whose rows are not whole blocks is stored as F16.
    Q8_0,
}

impl ExportDtype {
    fn of_matrix(self, columns: usize) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
            Self::Q8_0 if columns.is_multiple_of(Dtype::Q8_0.block_elements()) => Dtype::Q8_0,
            Self::F16 | Self::Q8_0 => Dtype::F16,
        }
    }

    /// ggml's number for files that are mostly of this type.
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }
}

/// Writes `checkpoint` as a GGUF file, which appears at `output` when it is complete.
///
/// Refused are checkpoints that the format, as other programs read it, cannot express: Llama 3 scaling of rotary frequencies with other
/// bounds than those of the releases, and tokenizers that are not byte-level BPE with a cut that GGUF has a name for. Sliding windows are
/// written, but llama.cpp reads none in these architectures: there, a text longer than the window is computed without it.
pub fn export_gguf(checkpoint: &Checkpoint, output: &Path, dtype: ExportDtype) -> Result<(), CheckpointError> {
    let values = metadata(checkpoint, dtype).map_err(CheckpointError::gguf(checkpoint.path()))?;
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = write_file(checkpoint, &partial, &values, dtype);
    let renamed = written.and_then(|()| fs::rename(&partial, output).map_err(CheckpointError::access(output)));
    if renamed.is_err() {
        // What went wrong is said already; a rest that cannot be removed is not worse.
        drop(fs::remove_file(&partial));
    }
    renamed
}

fn write_file(
    checkpoint: &Checkpoint,
    path: &Path,
    values: &[(String, Written)],
    dtype: ExportDtype,
) -> Result<(), CheckpointError> {
    let shapes = checkpoint.config().tensor_shapes();
    let plan = shapes.iter().map(|(name, shape)| plan(name, shape, dtype)).collect::<Result<Vec<_>, _>>();
    let mut plan = plan.map_err(CheckpointError::gguf(checkpoint.path()))?;
    let factors = rope::factors(checkpoint.config());
    plan.extend(factors.as_ref().map(|factors| Planned {
        name: names::ROPE_FACTORS.to_owned(),
        shape: vec![factors.len()],
        dtype: Dtype::F32,
    }));
    let mut file = BufWriter::new(File::create(path).map_err(CheckpointError::access(path))?);
    write_header(&mut file, values, &plan).map_err(CheckpointError::access(path))?;
    for ((name, shape), planned) in shapes.iter().zip(&plan) {
        let bytes = tensor(checkpoint, name, shape, planned.dtype)?;
        write_tensor(&mut file, &bytes).map_err(CheckpointError::access(path))?;
    }
    if let Some(factors) = &factors {
        write_tensor(&mut file, &encode(factors, Dtype::F32)).map_err(CheckpointError::access(path))?;
    }
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(CheckpointError::access(path))
}

fn plan(name: &str, shape: &[usize], dtype: ExportDtype) -> Result<Planned, GgufError> {
    let translated = names::to_gguf(name).ok_or_else(|| GgufError::Export(format!("it has no word for `{name}`")))?;
    let dtype = if let &[_, columns] = shape { dtype.of_matrix(columns) } else { Dtype::F32 };
    Ok(Planned { name: translated, shape: shape.to_vec(), dtype })
}

/// The bytes of one weight.
fn tensor(checkpoint: &Checkpoint, name: &str, shape: &[usize], dtype: Dtype) -> Result<Vec<u8>, CheckpointError> {
    let config = checkpoint.config();
    let Some(view) = checkpoint.tensors().get(name) else {
        let (path, expected) = (checkpoint.path().to_owned(), shape.to_vec());
        return Err(CheckpointError::MissingTensor { path, name: name.to_owned(), expected });
    };
    let order = RowOrder::of(
        export_config::architecture(config.family),
        name,
        config.num_attention_heads,
        config.num_key_value_heads,
    );
    let values = order.to_stored(&view.to_f32(), shape[0]);
    let bytes = encode(&values, dtype);
    let too_large = dtype.to_f32(&bytes).into_iter().zip(&values).find(|(stored, _)| !stored.is_finite());
    match too_large {
        Some((_, value)) => Err(CheckpointError::gguf(checkpoint.path())(GgufError::Export(format!(
            "`{name}` holds {value}, which {} cannot; choose F32 or BF16",
            dtype.name()
        )))),
        None => Ok(bytes),
    }
}

/// Rounded to nearest; `dtype` is one of those that [`ExportDtype`] leads to.
fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::Bf16 => Storage::Bf16.encode(values),
        Dtype::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        Dtype::Q8_0 => Storage::Q8_0.encode(values),
        _ => Storage::F32.encode(values),
    }
}

fn metadata(checkpoint: &Checkpoint, dtype: ExportDtype) -> Result<Vec<(String, Written)>, GgufError> {
    let mut values = export_config::values(checkpoint.config())?;
    values.push(("general.file_type".to_owned(), Written::Integer(dtype.file_type())));
    let tokenizer = tokenizer(checkpoint)?;
    values.extend(tokenizer.into_iter().map(|(key, value)| (key.to_owned(), value)));
    Ok(values)
}

fn tokenizer(checkpoint: &Checkpoint) -> Result<Vec<(&'static str, Written)>, GgufError> {
    let failed = |error: &dyn std::fmt::Display| GgufError::Export(format!("its tokenizer cannot be read: {error}"));
    let json: Value = checkpoint.tokenizer().to_json().map_err(|error| failed(&error))?;
    let pre_tokenizer = described(&json)?;
    let (tokens, kinds) = tokens(&json, checkpoint.config().vocab_size)?;
    let mut values = vec![
        ("tokenizer.ggml.model", Written::Text("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Written::Text(pre_tokenizer.names[0].to_owned())),
        ("tokenizer.ggml.tokens", Written::Texts(tokens)),
        ("tokenizer.ggml.token_type", Written::Integers(kinds.into_iter().map(|kind| kind as i32).collect())),
        ("tokenizer.ggml.merges", Written::Texts(merges(&json)?)),
        ("tokenizer.ggml.add_space_prefix", Written::Bool(false)),
    ];
    values.extend(ends(checkpoint)?);
    if let Some(template) = checkpoint.chat_template() {
        values.push(("tokenizer.chat_template", Written::Text(template.to_owned())));
    }
    Ok(values)
}

fn described(json: &Value) -> Result<&'static PreTokenizer, GgufError> {
    if json["model"]["type"] != "BPE" || json["model"]["byte_fallback"] == true {
        return Err(GgufError::Export("its tokenizer is no byte-level BPE, the only kind that is written".to_owned()));
    }
    PreTokenizer::described_by(json).ok_or_else(|| {
        let known: Vec<_> = PRE_TOKENIZERS.iter().map(|known| known.names[0]).collect();
        GgufError::Export(format!(
            "its tokenizer cuts text in a way that has no name in GGUF; known are {}",
            known.join(", ")
        ))
    })
}

/// Texts and kinds of all ids; those that the tokenizer leaves free get a text of their own.
fn tokens(json: &Value, vocabulary: usize) -> Result<(Vec<String>, Vec<Kind>), GgufError> {
    let mut tokens: Vec<String> = (0..vocabulary).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![Kind::Unused; vocabulary];
    let known = json["model"]["vocab"].as_object().into_iter().flatten();
    let known = known.map(|(text, id)| (Some(text.as_str()), id, Kind::Normal));
    let added = json["added_tokens"].as_array().into_iter().flatten().map(|token| {
        let kind = if token["special"] == true { Kind::Control } else { Kind::UserDefined };
        (token["content"].as_str(), &token["id"], kind)
    });
    for (text, id, kind) in known.chain(added) {
        let slot = id.as_u64().map(|id| id as usize).filter(|&id| id < vocabulary);
        let (Some(text), Some(slot)) = (text, slot) else {
            return Err(GgufError::Export(format!("its tokenizer has a token with id {id}, beyond the vocabulary")));
        };
        text.clone_into(&mut tokens[slot]);
        kinds[slot] = kind;
    }
    Ok((tokens, kinds))
}

/// `["a", "b"]` to `"a b"`.
fn merges(json: &Value) -> Result<Vec<String>, GgufError> {
    let merges = json["model"]["merges"].as_array().into_iter().flatten();
    let written = merges.map(|merge| match (merge[0].as_str(), merge[1].as_str(), merge.as_str()) {
        (Some(left), Some(right), _) => Ok(format!("{left} {right}")),
        (_, _, Some(pair)) => Ok(pair.to_owned()),
        _ => Err(GgufError::Export(format!("its tokenizer has the merge {merge}, which is no pair of tokens"))),
    });
    written.collect()
}

/// Tokens that begin and end texts.
fn ends(checkpoint: &Checkpoint) -> Result<Vec<(&'static str, Written)>, GgufError> {
    let config = checkpoint.config();
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
    let ids = checkpoint.eos_token_ids();
    if ids.len() > keys.len() {
        return Err(GgufError::Export(format!("it names {} tokens that end a text; GGUF has room for 3", ids.len())));
    }
    let mut values: Vec<_> = keys.into_iter().zip(ids).map(|(key, &id)| (key, Written::Integer(id))).collect();
    values.extend(config.bos_token_id.map(|id| ("tokenizer.ggml.bos_token_id", Written::Integer(id))));
    values.extend(config.pad_token_id.map(|id| ("tokenizer.ggml.padding_token_id", Written::Integer(id))));
    let encoded = checkpoint.tokenizer().encode("a").unwrap_or_default();
    let adds =
        |place: Option<&u32>, id: Option<u32>| Written::Bool(encoded.len() > 1 && id.is_some() && place == id.as_ref());
    values.push(("tokenizer.ggml.add_bos_token", adds(encoded.first(), config.bos_token_id)));
    values.push(("tokenizer.ggml.add_eos_token", adds(encoded.last(), ids.first().copied())));
    Ok(values)
}
