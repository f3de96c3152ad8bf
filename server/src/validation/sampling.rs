//! How the tokens of an answer are drawn: the fields of the OpenAI API and of servers like this one, each within its range. A request that
//! can only be meant for sampling is never answered greedily in silence.

use std::{num::NonZeroUsize, ops::RangeInclusive};

use cllm_engine::Sampling;
use serde_json::Value;

use super::{Fields, fields::kind};
use crate::error::ApiError;

/// Most answers to one prompt.
pub const MAX_CHOICES: u64 = 8;
/// Most tokens with a bias.
pub const MAX_LOGIT_BIASES: usize = 1024;

/// How the choices of an answer are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidSampling {
    /// Of every choice, but for its seed and number.
    settings: Sampling,
    seed: Option<i64>,
    choices: u32,
}

impl ValidSampling {
    /// Reads the fields of a request for a model with so many tokens. Without a temperature the most likely token is taken.
    pub(super) fn check(fields: &Fields, vocabulary_size: usize) -> Result<Self, ApiError> {
        let number = |name, range, default: f32| Ok::<f32, ApiError>(within(fields, name, range)?.unwrap_or(default));
        let settings = Sampling {
            temperature: number("temperature", 0.0..=2.0, 0.0)?,
            top_k: top_k(fields)?,
            // 0 leaves the most likely token, which the engine asks to be said with a positive number
            top_p: number("top_p", 0.0..=1.0, 1.0)?.max(f32::MIN_POSITIVE),
            min_p: number("min_p", 0.0..=1.0, 0.0)?,
            presence_penalty: number("presence_penalty", -2.0..=2.0, 0.0)?,
            frequency_penalty: number("frequency_penalty", -2.0..=2.0, 0.0)?,
            repetition_penalty: number("repetition_penalty", 0.01..=10.0, 1.0)?,
            logit_bias: logit_bias(fields, vocabulary_size)?,
            ..Sampling::default()
        };
        let choices = choices(fields)?;
        refuse_what_greedy_decoding_ignores(fields, &settings, choices)?;
        Ok(Self { settings, seed: fields.integer("seed")?, choices })
    }

    /// Answers to each prompt.
    pub fn choices(&self) -> usize {
        self.choices as usize
    }

    /// The seed of the request, or else what `draw` gives; none where nothing is left to chance.
    pub fn seed_or_else(&self, draw: impl FnOnce() -> i64) -> Option<i64> {
        (self.settings.temperature > 0.0).then(|| self.seed.unwrap_or_else(draw))
    }

    /// How each choice is drawn with a seed.
    pub fn of_choices(&self, seed: Option<i64>) -> impl Iterator<Item = Sampling> {
        let seed = seed.unwrap_or(0).cast_unsigned();
        (0..self.choices).map(move |choice| Sampling { seed, choice, ..self.settings.clone() })
    }
}

/// Who narrows a distribution, or wants several answers, expects that something is drawn from it. Temperature 0 says that it is not.
fn refuse_what_greedy_decoding_ignores(fields: &Fields, settings: &Sampling, choices: u32) -> Result<(), ApiError> {
    if choices > 1 && settings.temperature == 0.0 {
        let message =
            format!("n is {choices}, but without a temperature above 0 all choices are the same: send one, or n: 1.");
        return Err(ApiError::field("n", message));
    }
    if fields.get("temperature").is_some() {
        return Ok(());
    }
    let narrowing = [
        ("top_p", settings.top_p < 1.0),
        ("top_k", settings.top_k.is_some_and(|k| k.get() > 1)),
        ("min_p", settings.min_p > 0.0),
    ];
    match narrowing.into_iter().find(|(_, narrows)| *narrows) {
        Some((name, _)) => Err(ApiError::field(
            name,
            format!(
                "{name} is {}, but without a temperature the most likely token is taken, whatever {name} is: send a temperature too.",
                found(fields, name)
            ),
        )),
        None => Ok(()),
    }
}

fn within(fields: &Fields, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
    match fields.number(name)? {
        Some(value) if !range.contains(&value) => {
            let (low, high) = range.into_inner();
            let found = found(fields, name);
            Err(ApiError::field(name, format!("{name} is {found}, but it must be a number from {low} to {high}.")))
        }
        number => Ok(number.map(|value| value as f32)),
    }
}

/// As it was sent.
fn found(fields: &Fields, name: &str) -> String {
    fields.get(name).map(kind).unwrap_or_default()
}

/// −1 and 0 are all tokens.
fn top_k(fields: &Fields) -> Result<Option<NonZeroUsize>, ApiError> {
    match fields.integer("top_k")? {
        Some(k) if k < -1 => Err(ApiError::field(
            "top_k",
            format!("top_k is {k}, but it must be a number of tokens, or 0 or -1 for all of them."),
        )),
        k => Ok(k.and_then(|k| NonZeroUsize::new(usize::try_from(k).unwrap_or(0)))),
    }
}

fn choices(fields: &Fields) -> Result<u32, ApiError> {
    match fields.count("n")?.unwrap_or(1) {
        count @ 1..=MAX_CHOICES => Ok(count as u32),
        count => Err(ApiError::field("n", format!("n is {count}, but it must be from 1 to {MAX_CHOICES}."))),
    }
}

/// `{"TOKEN": BIAS, …}`.
fn logit_bias(fields: &Fields, vocabulary_size: usize) -> Result<Vec<(u32, f32)>, ApiError> {
    let refuse = |found: String| {
        let allowed = format!(
            "an object of up to {MAX_LOGIT_BIASES} token ids below {vocabulary_size}, each with a number from -100 to 100"
        );
        ApiError::field("logit_bias", format!("logit_bias {found}, but it must be {allowed}."))
    };
    let Some(biases) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    if biases.entries().len() > MAX_LOGIT_BIASES {
        return Err(refuse(format!("has {} entries", biases.entries().len())));
    }
    let entry = |(token, bias): (&String, &Value)| {
        // one spelling for each, so that no token is there twice
        let id = token.parse::<u32>().ok().filter(|id| (*id as usize) < vocabulary_size && id.to_string() == *token);
        let bias_value = bias.as_f64().filter(|value| (-100.0..=100.0).contains(value));
        match (id, bias_value) {
            (Some(id), Some(value)) => Ok((id, value as f32)),
            (None, _) => Err(refuse(format!("has the token {}", kind(&Value::from(token.as_str()))))),
            (_, None) => Err(refuse(format!("is {} for token {token}", kind(bias)))),
        }
    };
    biases.entries().iter().map(entry).collect()
}
