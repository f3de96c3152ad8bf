//! Named pre-tokenizers: GGUF says only `llama-bpe`, `tokenizers` wants the regular expressions. Those are the ones in the `tokenizer.json`
//! of the families' releases.

use serde_json::{Value, json};

/// How a family cuts text into the pieces within which tokens are merged.
pub(super) struct PreTokenizer {
    /// What `tokenizer.ggml.pre` may say; the first one is written.
    pub(super) names: &'static [&'static str],
    cut: Cut,
    /// Whether text is brought to the composed normal form first.
    composed: bool,
    /// Whether a piece that is a token is taken whole, without merging.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with BOS where the file does not say.
    pub(super) adds_bos: bool,
}

enum Cut {
    /// The cut of GPT-2, which `tokenizers` has built in.
    Gpt2,
    /// Each digit by itself, the rest like GPT-2.
    DigitsThenGpt2,
    /// One expression after the other, then perhaps each digit by itself.
    Expressions(&'static [&'static str], bool),
}

pub(super) const PRE_TOKENIZERS: [PreTokenizer; 7] = [
    PreTokenizer {
        names: &["gpt-2", "gpt2", "phi-2", "olmo"],
        cut: Cut::Gpt2,
        composed: false,
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r"],
        cut: Cut::DigitsThenGpt2,
        composed: false,
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        cut: Cut::Expressions(
            &[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ],
            false,
        ),
        composed: false,
        ignore_merges: true,
        adds_bos: true,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen"],
        cut: Cut::Expressions(
            &[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ],
            false,
        ),
        composed: true,
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["tekken"],
        cut: Cut::Expressions(
            &[
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ],
            false,
        ),
        composed: false,
        ignore_merges: true,
        adds_bos: true,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        cut: Cut::Expressions(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+"], true),
        composed: false,
        ignore_merges: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["default"],
        cut: Cut::Expressions(
            &[
                r"[\p{P}\$\+<=>\^~\|]+",
                r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
                r"\p{N}+",
                r"[0-9][0-9][0-9]",
            ],
            false,
        ),
        composed: false,
        ignore_merges: false,
        adds_bos: false,
    },
];

impl PreTokenizer {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        PRE_TOKENIZERS.iter().find(|known| known.names.contains(&name))
    }

    /// The one that a `tokenizer.json` describes, if GGUF has a name for it.
    pub(super) fn described_by(tokenizer: &Value) -> Option<&'static Self> {
        let [pre_tokenizer, normalizer] = ["pre_tokenizer", "normalizer"].map(|part| without_offsets(&tokenizer[part]));
        let ignores_merges = tokenizer["model"]["ignore_merges"].as_bool().unwrap_or(false);
        PRE_TOKENIZERS.iter().find(|known| {
            without_offsets(&known.json()) == pre_tokenizer
                && known.normalizer() == normalizer
                && known.ignore_merges == ignores_merges
        })
    }

    /// `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn json(&self) -> Value {
        match self.cut {
            Cut::Gpt2 => byte_level(true),
            Cut::DigitsThenGpt2 => sequence(&[digits(), byte_level(true)]),
            Cut::Expressions(expressions, digits_alone) => {
                let splits = expressions.iter().map(|expression| split(expression));
                sequence(&splits.chain(digits_alone.then(digits)).chain([byte_level(false)]).collect::<Vec<_>>())
            }
        }
    }

    /// `normalizer` of a `tokenizer.json`.
    pub(super) fn normalizer(&self) -> Value {
        if self.composed { json!({ "type": "NFC" }) } else { Value::Null }
    }
}

fn sequence(parts: &[Value]) -> Value {
    json!({ "type": "Sequence", "pretokenizers": parts })
}

fn split(expression: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false })
}

fn digits() -> Value {
    json!({ "type": "Digits", "individual_digits": true })
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

/// Offsets into the text do not change tokens.
fn without_offsets(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| *key != "trim_offsets");
            Value::Object(kept.map(|(key, value)| (key.clone(), without_offsets(value))).collect())
        }
        Value::Array(values) => values.iter().map(without_offsets).collect(),
        other => other.clone(),
    }
}
