//! The tokens of a GGUF file with their kinds, and the tokens that begin and end texts.

use std::collections::HashMap;

use super::GgufError;
use super::metadata::Metadata;

/// Kinds of tokens, by their numbers in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl Kind {
    fn of(number: i64) -> Option<Self> {
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte]
            .into_iter()
            .find(|kind| *kind as i64 == number)
    }
}

/// Tokens by id.
#[derive(Debug)]
pub(super) struct Vocabulary<'a> {
    pub(super) tokens: Vec<&'a str>,
    pub(super) kinds: Vec<Kind>,
    pub(super) ids: HashMap<&'a str, u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Vec<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) padding: Option<u32>,
}

/// Keys of tokens that end a text or a turn. The one that converters take for the end comes first.
const END_KEYS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Control tokens that end a text in every model that has them. Converters of many files name only one of the several ends.
const END_TEXTS: [&str; 7] =
    ["<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end_of_text|>", "<|endoftext|>", "<|EOT|>", "</s>"];

impl<'a> Vocabulary<'a> {
    pub(super) fn read(metadata: &Metadata<'a>) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = metadata
            .texts(key)?
            .ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: "an array of strings" })?;
        let kinds = kinds(metadata, tokens.len())?;
        let ids = ids(&tokens)?;
        let token = |key: &str| match metadata.token(key)? {
            Some(id) if id as usize >= tokens.len() => {
                Err(GgufError::Tokenizer(format!("`{key}` is {id}, but there are only {} tokens", tokens.len())))
            }
            id => Ok(id),
        };
        let named = END_KEYS.iter().map(|key| token(key)).collect::<Result<Vec<_>, _>>()?;
        let told = END_TEXTS.iter().filter_map(|text| ids.get(text).copied());
        let mut eos = Vec::new();
        for id in named.into_iter().flatten().chain(told.filter(|&id| kinds[id as usize] == Kind::Control)) {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        let bos = token("tokenizer.ggml.bos_token_id")?;
        let unknown = token("tokenizer.ggml.unknown_token_id")?;
        let padding = token("tokenizer.ggml.padding_token_id")?;
        Ok(Self { tokens, kinds, ids, bos, eos, unknown, padding })
    }

    pub(super) fn text(&self, id: u32) -> &'a str {
        self.tokens[id as usize]
    }

    /// Tokens with their ids and kinds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &'a str, Kind)> {
        (0_u32..).zip(&self.tokens).zip(&self.kinds).map(|((id, token), kind)| (id, *token, *kind))
    }
}

fn kinds(metadata: &Metadata<'_>, count: usize) -> Result<Vec<Kind>, GgufError> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = metadata.integers(key)? else { return Ok(vec![Kind::Normal; count]) };
    same_count(key, numbers.len(), count)?;
    numbers
        .into_iter()
        .map(|number| {
            Kind::of(number)
                .ok_or_else(|| GgufError::Tokenizer(format!("a token has type {number}; the format has 1 to 6")))
        })
        .collect()
}

fn ids<'a>(tokens: &[&'a str]) -> Result<HashMap<&'a str, u32>, GgufError> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, token) in (0_u32..).zip(tokens) {
        if let Some(first) = ids.insert(*token, id) {
            let problem = format!("the tokens {first} and {id} have the same text {token:?}");
            return Err(GgufError::Tokenizer(problem));
        }
    }
    Ok(ids)
}

/// One entry for each token.
pub(super) fn same_count(key: &str, found: usize, tokens: usize) -> Result<(), GgufError> {
    if found == tokens {
        return Ok(());
    }
    Err(GgufError::Tokenizer(format!("`{key}` has {found} entries, but there are {tokens} tokens")))
}
