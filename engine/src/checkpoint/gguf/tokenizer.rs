//! From GGUF metadata to a `tokenizer.json`, as transformers converts the same tokenizers: byte-level BPE and `SentencePiece` BPE.

use serde_json::{Map, Value, json};

use super::GgufError;
use super::metadata::Metadata;
use super::pre_tokenizers::{PRE_TOKENIZERS, PreTokenizer};
use super::vocabulary::{Kind, Vocabulary, same_count};

/// The character that stands for a space in the tokens of `SentencePiece`.
const SPACE: &str = "▁";

/// The content of a `tokenizer.json`.
pub(super) fn tokenizer(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value, GgufError> {
    let key = "tokenizer.ggml.model";
    match metadata.text(key)? {
        Some("gpt2") => byte_level(metadata, vocabulary),
        Some("llama") => sentence_piece(metadata, vocabulary),
        found => Err(GgufError::Unsupported {
            key: key.to_owned(),
            found: found.map_or_else(|| "missing".to_owned(), |found| format!("{found:?}")),
            supported: "\"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece BPE)".to_owned(),
        }),
    }
}

fn byte_level(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value, GgufError> {
    let pre_tokenizer = pre_tokenizer(metadata)?;
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre_tokenizer.ignore_merges,
        "vocab": vocabulary_json(vocabulary), "merges": listed_merges(metadata)?,
    });
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added_tokens(vocabulary),
        "normalizer": pre_tokenizer.normalizer(), "pre_tokenizer": pre_tokenizer.json(),
        "post_processor": post_processor(metadata, vocabulary, pre_tokenizer.adds_bos)?,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": model,
    }))
}

/// Files from before these names were invented are cut as llama.cpp cuts them.
fn pre_tokenizer(metadata: &Metadata<'_>) -> Result<&'static PreTokenizer, GgufError> {
    let key = "tokenizer.ggml.pre";
    let name = metadata.text(key)?.unwrap_or("default");
    PreTokenizer::named(name).ok_or_else(|| GgufError::Unsupported {
        key: key.to_owned(),
        found: format!("{name:?}"),
        supported: PRE_TOKENIZERS.iter().flat_map(|known| known.names).copied().collect::<Vec<_>>().join(", "),
    })
}

/// `"a b"` to `["a", "b"]`.
fn listed_merges(metadata: &Metadata<'_>) -> Result<Vec<Value>, GgufError> {
    let key = "tokenizer.ggml.merges";
    let merges = metadata
        .texts(key)?
        .ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: "an array of strings" })?;
    let pair = |merge: &&str| match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok(json!([left, right]))
        }
        _ => Err(GgufError::Tokenizer(format!("the merge {merge:?} is not two tokens with a space between"))),
    };
    merges.iter().map(pair).collect()
}

fn sentence_piece(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value, GgufError> {
    let key = "tokenizer.ggml.scores";
    let scores = metadata
        .floats(key)?
        .ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: "an array of numbers" })?;
    same_count(key, scores.len(), vocabulary.tokens.len())?;
    if let Some(score) = scores.iter().find(|score| score.is_nan()) {
        return Err(GgufError::Tokenizer(format!("a score is {score}")));
    }
    let unknown =
        vocabulary.unknown.or_else(|| vocabulary.iter().find(|token| token.2 == Kind::Unknown).map(|token| token.0));
    let prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": unknown.map(|id| vocabulary.text(id)),
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
        "ignore_merges": false, "vocab": vocabulary_json(vocabulary), "merges": merges_from_scores(vocabulary, &scores),
    });
    let prepend = prefix.then(|| json!({ "type": "Prepend", "prepend": SPACE }));
    let strip = prefix.then(|| json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    let replace = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    let normalizers: Vec<Value> = prepend.into_iter().chain([replace(" ", SPACE)]).collect();
    let decoders = [replace(SPACE, " "), json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added_tokens(vocabulary),
        "normalizer": { "type": "Sequence", "normalizers": normalizers }, "pre_tokenizer": null,
        "post_processor": post_processor(metadata, vocabulary, true)?,
        "decoder": { "type": "Sequence", "decoders": decoders.into_iter().chain(strip).collect::<Vec<_>>() },
        "model": model,
    }))
}

/// `SentencePiece` joins the two neighbours whose union has the best score. As a list of merges: every way to put a token together from two
/// others, best scores first; equal ones with the longer left part first, as transformers orders them.
fn merges_from_scores(vocabulary: &Vocabulary<'_>, scores: &[f64]) -> Vec<[String; 2]> {
    let mut merges = Vec::new();
    for (id, token, _) in vocabulary.iter().filter(|token| matches!(token.2, Kind::Normal | Kind::UserDefined)) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if vocabulary.ids.contains_key(left) && vocabulary.ids.contains_key(right) {
                merges.push((scores[id as usize], left.chars().count(), right.chars().count(), [left, right]));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    merges.into_iter().map(|(.., pair)| pair.map(str::to_owned)).collect()
}

fn vocabulary_json(vocabulary: &Vocabulary<'_>) -> Map<String, Value> {
    vocabulary.iter().map(|(id, token, _)| (token.to_owned(), id.into())).collect()
}

/// Tokens that are found in text before anything is cut. Only control tokens are left out of decoded text.
fn added_tokens(vocabulary: &Vocabulary<'_>) -> Vec<Value> {
    let added = vocabulary.iter().filter(|token| matches!(token.2, Kind::Control | Kind::UserDefined | Kind::Unknown));
    added
        .filter(|(_, token, _)| !token.is_empty())
        .map(|(id, token, kind)| {
            json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                    "special": kind != Kind::UserDefined })
        })
        .collect()
}

/// BOS before and EOS after a text, as the file says.
fn post_processor(metadata: &Metadata<'_>, vocabulary: &Vocabulary<'_>, adds_bos: bool) -> Result<Value, GgufError> {
    let asked = |key: &str, usual: bool, token: Option<u32>| match (metadata.bool(key)?, token) {
        (Some(true), None) => Err(GgufError::Tokenizer(format!("`{key}` is true, but no such token is named"))),
        (asked, token) => Ok(token.filter(|_| asked.unwrap_or(usual))),
    };
    let bos = asked("tokenizer.ggml.add_bos_token", adds_bos, vocabulary.bos)?;
    let eos = asked("tokenizer.ggml.add_eos_token", false, vocabulary.eos.first().copied())?;
    if bos.is_none() && eos.is_none() {
        return Ok(Value::Null);
    }
    let special = |id: u32| json!({ "SpecialToken": { "id": vocabulary.text(id), "type_id": 0 } });
    let text = |name: &str| {
        let sequence = json!({ "Sequence": { "id": name, "type_id": 0 } });
        bos.map(special).into_iter().chain([sequence]).chain(eos.map(special))
    };
    let described = bos.into_iter().chain(eos).map(|id| {
        let text = vocabulary.text(id);
        (text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] }))
    });
    Ok(json!({
        "type": "TemplateProcessing", "single": text("A").collect::<Vec<_>>(),
        "pair": text("A").chain(text("B")).collect::<Vec<_>>(), "special_tokens": described.collect::<Map<_, _>>(),
    }))
}
