//! The figures of Jacobi decoding in a response, in the shape of vLLM's `metrics.speculative_decoding`. Pure.

use serde::Serialize;

use crate::worker::Answered;

/// `metrics` of a response: one forward of Jacobi decoding is one speculative step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ResponseMetrics {
    /// Absent (null) without decode forwards.
    pub tokens_per_forward: Option<f64>,
    /// Null without decode forwards.
    pub speculative_decoding: Option<SpeculativeDecoding>,
    /// With it the same request gets the same answer; absent where nothing was left to chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

/// As vLLM counts: the bonus token of each step is not a draft token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SpeculativeDecoding {
    /// Tokens per step, the bonus token included.
    pub mean_acceptance_length: f64,
    /// Accepted ÷ drafted; null when nothing was drafted.
    pub draft_acceptance_rate: Option<f64>,
    /// Decode forwards.
    pub num_spec_steps: u64,
    /// Guessed tokens that became part of the answer.
    pub num_accepted_draft_tokens: u64,
    /// Guessed tokens.
    pub num_draft_tokens: u64,
    /// Most guessed tokens that a step can have.
    pub num_spec_tokens: u32,
}

/// (generated tokens − 1) ÷ decode forwards: the first token comes out of the prefill. Absent without a decode forward.
pub fn tokens_per_forward(decoded_tokens: usize, decode_forwards: u64) -> Option<f64> {
    (decode_forwards > 0).then(|| decoded_tokens as f64 / decode_forwards as f64)
}

/// The figures of all answers of a response together, without a seed.
pub fn summarize(answers: &[Answered], block_size: u32) -> ResponseMetrics {
    let decoded: usize = answers.iter().map(|answer| answer.tokens.saturating_sub(1)).sum();
    let steps: u64 = answers.iter().map(|answer| answer.forwards.decode).sum();
    let drafted: u64 = answers.iter().map(|answer| answer.forwards.drafted).sum();
    let rate = tokens_per_forward(decoded, steps);
    let accepted = (decoded as u64).saturating_sub(steps);
    ResponseMetrics {
        seed: None,
        tokens_per_forward: rate,
        speculative_decoding: rate.map(|mean_acceptance_length| SpeculativeDecoding {
            mean_acceptance_length,
            draft_acceptance_rate: (drafted > 0).then(|| accepted as f64 / drafted as f64),
            num_spec_steps: steps,
            num_accepted_draft_tokens: accepted,
            num_draft_tokens: drafted,
            num_spec_tokens: block_size.saturating_sub(1),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{FinishReason, Forwards};

    fn answer(tokens: usize, decode: u64, drafted: u64) -> Answered {
        Answered { reason: FinishReason::Stop, tokens, forwards: Forwards { decode, drafted } }
    }

    #[test]
    fn several_answers_are_one_sum() {
        let metrics = summarize(&[answer(13, 4, 60), answer(9, 6, 90)], 16);
        assert_eq!(metrics.tokens_per_forward, Some(2.0));
        let figures = metrics.speculative_decoding.unwrap();
        assert_eq!(
            (figures.num_spec_steps, figures.num_accepted_draft_tokens, figures.num_draft_tokens),
            (10, 10, 150)
        );
        assert_eq!(figures.draft_acceptance_rate, Some(10.0 / 150.0));
        assert_eq!(figures.num_spec_tokens, 15);
    }

    #[test]
    fn one_token_takes_no_decode_forward() {
        let metrics = summarize(&[answer(1, 0, 0)], 16);
        assert_eq!(metrics, ResponseMetrics { tokens_per_forward: None, speculative_decoding: None, seed: None });
    }

    #[test]
    fn autoregressive_is_one_exactly() {
        assert_eq!(summarize(&[answer(8, 7, 0)], 1).tokens_per_forward, Some(1.0));
    }
}
