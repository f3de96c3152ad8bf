//! How sure both checkpoints are of the target's answers.

use cllm_crds::report::Perplexity;
use cllm_engine::{KvCache, Model, Workspace};

use super::arms::ratio;
use super::intervals::bootstrap;
use crate::failure::{Failure, Result};

/// Tokens of a forward: their logits are all there at the same time.
const ROWS: usize = 32;

/// An answer of the target, and how it surprises both checkpoints: the sum of −ln p of its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Surprise {
    /// Tokens of the answer.
    pub tokens: usize,
    /// The target.
    pub target: f64,
    /// The trained checkpoint.
    pub cllm: f64,
}

/// The sum of −ln p of every token of `answer` after the prompt and the tokens before it.
pub(crate) fn surprise(model: &Model, workspace: &mut Workspace, prompt: &[u32], answer: &[u32]) -> Result<f64> {
    let Some((first, rest)) = answer.split_first() else { return Ok(0.0) };
    let mut cache = KvCache::new(model, prompt.len() + answer.len());
    let logits = model.forward_last(workspace, &mut cache, prompt).map_err(Failure::engine)?;
    let mut sum = of_token(logits.row(0), *first);
    for (inputs, tokens) in answer[..rest.len()].chunks(ROWS).zip(rest.chunks(ROWS)) {
        let logits = model.forward(workspace, &mut cache, inputs).map_err(Failure::engine)?;
        sum += (0..).zip(tokens).map(|(row, token)| of_token(logits.row(row), *token)).sum::<f64>();
    }
    Ok(sum)
}

/// −ln p of a token that is in the vocabulary.
fn of_token(logits: &[f32], token: u32) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - highest)
}

/// Over all answers.
pub(super) fn perplexity(surprises: &[Surprise], seed: u64) -> Perplexity {
    let all: Vec<usize> = (0..surprises.len()).collect();
    let [ratio_interval] = bootstrap(surprises.len(), seed, |draw| {
        [(mean(surprises, draw, |of| of.cllm) - mean(surprises, draw, |of| of.target)).exp()]
    });
    Perplexity {
        tokens: surprises.iter().map(|of| of.tokens as u64).sum(),
        target: mean(surprises, &all, |of| of.target).exp(),
        cllm: mean(surprises, &all, |of| of.cllm).exp(),
        ratio_interval,
    }
}

/// Of a token, over the answers of a draw.
fn mean(surprises: &[Surprise], draw: &[usize], value: fn(&Surprise) -> f64) -> f64 {
    let sum = |value: fn(&Surprise) -> f64| draw.iter().map(|&answer| value(&surprises[answer])).sum::<f64>();
    ratio(sum(value), sum(|of| of.tokens as f64))
}

#[cfg(test)]
mod tests {
    use cllm_crds::report::Interval;

    use super::*;

    #[test]
    fn an_even_choice_surprises_by_its_number_of_tokens() {
        for (logits, token, expected) in [
            (&[3.0, 3.0, 3.0, 3.0][..], 1, 4.0_f64.ln()),
            (&[0.0], 0, 0.0),
            (&[1000.0, 1000.0], 0, 2.0_f64.ln()),
            (&[-200.0, 200.0], 0, 400.0),
            (&[0.0, 3.0_f32.ln()], 1, (4.0_f64 / 3.0).ln()),
        ] {
            let found = of_token(logits, token);
            assert!((found - expected).abs() < 1e-6, "{token} of {logits:?}: {found}");
        }
    }

    #[test]
    fn perplexity_is_of_a_token_and_not_of_an_answer() {
        let of = |tokens: usize| Surprise { tokens, target: 0.0, cllm: tokens as f64 * 2.0_f64.ln() };
        let found = perplexity(&[of(1), of(9), of(30)], 3);
        assert_eq!(found.tokens, 40);
        for (value, expected) in
            [(found.target, 1.0), (found.cllm, 2.0), (found.ratio_interval.low, 2.0), (found.ratio_interval.high, 2.0)]
        {
            assert!((value - expected).abs() < 1e-9, "{found:?}");
        }
        let two = |cllm| Surprise { tokens: 10, target: 1.0, cllm };
        let Interval { low, high } = perplexity(&[two(1.0), two(5.0), two(2.0), two(4.0)], 3).ratio_interval;
        assert!((1.0..1.2).contains(&low) && high > 1.3 && high <= 0.4_f64.exp(), "{low} to {high}");
    }
}
