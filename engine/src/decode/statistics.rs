//! What a text took. Seconds are measured around forwards, on the monotonic clock.

use serde::Serialize;

/// Counters of one text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Generated tokens, EOS included, nothing after it.
    pub generated_tokens: usize,
    /// Forwards after the prefill; the first token comes from the prefill.
    pub decode_forwards: usize,
    /// Seconds until the first token.
    pub prefill_seconds: f64,
    /// Seconds after it.
    pub decode_seconds: f64,
    /// Guesses that these forwards checked.
    pub drafted_tokens: usize,
    /// Accepted guesses that were new: one forward moved the front over them.
    pub fast_forwarded_tokens: usize,
    /// Accepted guesses that had stood in the window, right and unchanged, for at least one more forward while a token before them
    /// was still wrong.
    pub stationary_tokens: usize,
    /// Accepted guesses that were looked up in prompt and output.
    pub accepted_from_lookup: usize,
    /// Accepted guesses that the model had predicted, or that repeated the last token for want of anything better.
    pub accepted_from_predictions: usize,
    /// Forwards by the number of tokens that they added to the text; index 0 stays 0.
    pub accepted_len_histogram: Vec<u64>,
}

impl Statistics {
    /// Tokens after the first per forward after the prefill: 1 exactly for autoregressive decoding. 1 too where one token was all.
    pub fn tokens_per_forward(&self) -> f64 {
        match self.decode_forwards {
            0 => 1.0,
            forwards => (self.generated_tokens - 1) as f64 / forwards as f64,
        }
    }

    /// Counts a forward that added so many tokens.
    pub(super) fn count_forward(&mut self, added: usize) {
        self.decode_forwards += 1;
        if self.accepted_len_histogram.len() <= added {
            self.accepted_len_histogram.resize(added + 1, 0);
        }
        self.accepted_len_histogram[added] += 1;
    }
}
