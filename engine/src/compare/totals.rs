//! Sums of one way of decoding over several prompts, and the rates that reports quote.

use crate::decode::Statistics;

/// Sums over prompts. Seconds are wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DecodeTotals {
    /// Prompts.
    pub prompts: u64,
    /// Generated tokens, EOS included.
    pub generated_tokens: u64,
    /// Forwards after the prefills.
    pub decode_forwards: u64,
    /// Seconds after the prefills.
    pub decode_seconds: f64,
    /// Seconds of everything: tokenization, prefill, decoding.
    pub end_to_end_seconds: f64,
}

impl DecodeTotals {
    /// Adds a text. `encode_seconds`: of the tokenization of its prompt.
    pub fn add(&mut self, statistics: &Statistics, encode_seconds: f64) {
        self.prompts += 1;
        self.generated_tokens += statistics.generated_tokens as u64;
        self.decode_forwards += statistics.decode_forwards as u64;
        self.decode_seconds += statistics.decode_seconds;
        self.end_to_end_seconds += encode_seconds + statistics.prefill_seconds + statistics.decode_seconds;
    }

    /// Tokens after the prefills: the first of each prompt comes out of its prefill.
    pub fn decoded_tokens(&self) -> u64 {
        self.generated_tokens.saturating_sub(self.prompts)
    }

    /// 1 where no prompt needed a forward after its prefill.
    pub fn tokens_per_forward(&self) -> f64 {
        if self.decode_forwards == 0 { 1.0 } else { self.decoded_tokens() as f64 / self.decode_forwards as f64 }
    }

    /// Tokens after the first per second after the prefill; 0 where there is none.
    pub fn decode_tokens_per_second(&self) -> f64 {
        rate(self.decoded_tokens(), self.decode_seconds)
    }

    /// All tokens per second of everything.
    pub fn end_to_end_tokens_per_second(&self) -> f64 {
        rate(self.generated_tokens, self.end_to_end_seconds)
    }
}

fn rate(tokens: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(tokens: usize, forwards: usize, prefill: f64, decode: f64) -> Statistics {
        Statistics {
            generated_tokens: tokens,
            decode_forwards: forwards,
            prefill_seconds: prefill,
            decode_seconds: decode,
            ..Statistics::default()
        }
    }

    #[test]
    fn the_first_token_of_each_prompt_is_not_decoded() {
        let mut totals = DecodeTotals::default();
        totals.add(&statistics(11, 4, 0.25, 0.75), 0.25);
        totals.add(&statistics(11, 4, 0.25, 0.25), 0.25);
        assert_eq!((totals.prompts, totals.decoded_tokens()), (2, 20));
        let rates =
            (totals.tokens_per_forward(), totals.decode_tokens_per_second(), totals.end_to_end_tokens_per_second());
        assert_eq!(rates, (2.5, 20.0, 11.0));
    }

    #[test]
    fn nothing_decoded_is_no_speed() {
        let mut totals = DecodeTotals::default();
        totals.add(&statistics(1, 0, 0.5, 0.0), 0.0);
        let rates =
            (totals.tokens_per_forward(), totals.decode_tokens_per_second(), totals.end_to_end_tokens_per_second());
        assert_eq!(rates, (1.0, 0.0, 2.0));
    }
}
