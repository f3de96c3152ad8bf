//! Sampling that Jacobi decoding does not change: which token follows is a function of the logits, the text so far and a seed.
//!
//! The noise of a token at a position is fixed by the seed (Gumbel noise from a counter), so a sample is an argmax like any other pick. The
//! map from guesses to picks is causal, and its fixed point is what sampling token by token with the same seed gives.

mod history;
mod noise;
mod nucleus;
mod picker;

use std::num::NonZeroUsize;

use thiserror::Error;

pub(super) use picker::Picker;

/// How a token is drawn from the logits, in this order: bias, penalties, temperature, top-k, top-p, min-p, draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 picks the most likely token.
    pub temperature: f32,
    /// Only so many of the most likely tokens.
    pub top_k: Option<NonZeroUsize>,
    /// Only the most likely tokens that together have this much probability, the one that crosses it included; 1 for all.
    pub top_p: f32,
    /// Only tokens with at least this share of the probability of the most likely one; 0 for all.
    pub min_p: f32,
    /// Taken from the logit of a token that was generated before.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time that it was generated before.
    pub frequency_penalty: f32,
    /// Divides the logit, or multiplies it where that is negative, of a token of the prompt or the generated text; 1 for none.
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text.
    pub seed: u64,
    /// Tells several texts for one prompt and seed apart.
    pub choice: u32,
}

impl Default for Sampling {
    /// The most likely token.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            choice: 0,
        }
    }
}

/// A value that sampling cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} is {found}, but must be {allowed}")]
pub struct SamplingError {
    name: &'static str,
    found: String,
    allowed: &'static str,
}

impl Sampling {
    /// Refuses values without a meaning. `vocab_size` bounds the tokens of the bias.
    pub fn check(&self, vocab_size: usize) -> Result<(), SamplingError> {
        let finite = "a finite number";
        for (name, value, is_allowed, allowed) in [
            ("temperature", self.temperature, self.temperature >= 0.0, "0 or a positive number"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "more than 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            ("presence_penalty", self.presence_penalty, true, finite),
            ("frequency_penalty", self.frequency_penalty, true, finite),
            ("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "a positive number"),
        ] {
            if !is_allowed || !value.is_finite() {
                return Err(SamplingError { name, found: value.to_string(), allowed });
            }
        }
        for &(token, bias) in &self.logit_bias {
            if token as usize >= vocab_size {
                let allowed = "a token of the vocabulary";
                return Err(SamplingError { name: "logit_bias", found: format!("for token {token}"), allowed });
            }
            if !bias.is_finite() {
                return Err(SamplingError { name: "logit_bias", found: bias.to_string(), allowed: finite });
            }
        }
        Ok(())
    }

    /// Whether every pick is the token with the highest logit.
    fn is_plain(&self) -> bool {
        self.temperature == 0.0 && self.logit_bias.is_empty() && !self.has_penalties()
    }

    fn has_penalties(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 || (self.repetition_penalty - 1.0).abs() > 0.0
    }
}

#[cfg(test)]
mod tests;
