//! Checks of a run: held-out prompts, answered by the engine with the present weights. How fast, and how far from the target.

use std::sync::Arc;

use cllm_engine::differentiable::DifferentiableModel;
use cllm_engine::{Checkpoint, ComputeOptions, DecodeOptions, Model, Strategy, Workspace, generate};

use super::present::Present;
use crate::best::{Check, Merit};
use crate::evaluate::surprise;
use crate::failure::{Failure, Result};

/// When and how to check.
#[derive(Debug)]
pub(super) struct Probe {
    /// Steps between two checks.
    pub every: u64,
    /// The last step.
    pub last: u64,
    /// The target.
    pub model: Arc<Checkpoint>,
    /// The present weights.
    pub present: Present,
    /// Held-out prompts, at least one.
    pub prompts: Vec<Vec<u32>>,
    /// How to decode them.
    pub options: DecodeOptions,
    /// Percent by which the perplexity of the target's answers may exceed that of the target itself.
    pub max_perplexity_rise: f64,
    /// Threads of the engine.
    pub threads: usize,
    /// None before the first check.
    pub target: Option<TargetAnswers>,
}

/// What the target says.
#[derive(Debug)]
pub(super) struct TargetAnswers {
    /// In the order of the prompts.
    answers: Vec<Vec<u32>>,
    /// The sum of −ln p of all their tokens under the target.
    surprise: f64,
}

/// Sums over all prompts.
#[derive(Debug, Default)]
struct Answered {
    tokens: usize,
    forwards: usize,
    agreeing: usize,
    surprise: f64,
}

impl Probe {
    /// Whether a check is due after a step.
    pub(super) fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every) || step == self.last
    }

    /// Of the present weights.
    pub(super) fn check(&mut self, model: &DifferentiableModel) -> Result<Check> {
        let target = match self.target.take() {
            Some(target) => target,
            None => self.ask_target()?,
        };
        let check = self.answer(model, &target).map(|answered| self.judge(&answered, &target));
        self.target = Some(target);
        check
    }

    fn ask_target(&self) -> Result<TargetAnswers> {
        let engine = self.load(&self.model)?;
        let mut workspace = Workspace::new(&engine);
        let options = DecodeOptions { strategy: Strategy::Autoregressive, ..self.options };
        let mut target = TargetAnswers { answers: Vec::with_capacity(self.prompts.len()), surprise: 0.0 };
        for prompt in &self.prompts {
            let answer = generate(&engine, &mut workspace, prompt, options).map_err(Failure::engine)?.tokens;
            target.surprise += surprise(&engine, &mut workspace, prompt, &answer)?;
            target.answers.push(answer);
        }
        Ok(target)
    }

    fn answer(&self, model: &DifferentiableModel, target: &TargetAnswers) -> Result<Answered> {
        let engine = self.present.with(model, |checkpoint| self.load(checkpoint))?;
        let mut workspace = Workspace::new(&engine);
        let mut answered = Answered::default();
        for (prompt, of_target) in self.prompts.iter().zip(&target.answers) {
            let generation = generate(&engine, &mut workspace, prompt, self.options).map_err(Failure::engine)?;
            answered.tokens += generation.statistics.generated_tokens - 1;
            answered.forwards += generation.statistics.decode_forwards;
            answered.agreeing += usize::from(generation.tokens == *of_target);
            answered.surprise += surprise(&engine, &mut workspace, prompt, of_target)?;
        }
        Ok(answered)
    }

    fn load(&self, checkpoint: &Checkpoint) -> Result<Model> {
        let options = ComputeOptions { threads: self.threads, ..ComputeOptions::default() };
        Model::load(checkpoint, options).map_err(Failure::engine)
    }

    fn judge(&self, answered: &Answered, target: &TargetAnswers) -> Check {
        let Answered { tokens, forwards, agreeing, surprise } = answered;
        let tokens_per_forward = if *forwards == 0 { 1.0 } else { *tokens as f64 / *forwards as f64 };
        let of_target: usize = target.answers.iter().map(Vec::len).sum();
        let perplexity = ((surprise - target.surprise) / of_target.max(1) as f64).exp();
        let agreement = 100.0 * *agreeing as f64 / self.prompts.len() as f64;
        Check {
            figures: vec![
                ("tokensPerForward", tokens_per_forward),
                ("perplexityOverTarget", perplexity),
                ("agreementWithTarget", agreement),
            ],
            merit: merit(tokens_per_forward, perplexity, self.max_perplexity_rise),
        }
    }
}

/// The most tokens per forward win where the perplexity of the target's answers exceeds that of the target itself by no more than
/// `max_rise` percent. Where it never does, the lowest perplexity wins.
fn merit(tokens_per_forward: f64, perplexity_over_target: f64, max_rise: f64) -> Merit {
    if perplexity_over_target <= 1.0 + max_rise / 100.0 {
        Merit::of_kept_quality(tokens_per_forward)
    } else {
        Merit::of_lost_quality(-perplexity_over_target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_counts_where_the_answers_are_kept() {
        for (better, worse, why) in [
            ((2.5, 1.04), (2.0, 0.99), "faster, both within the limit"),
            ((1.2, 1.05), (3.0, 1.06), "the faster one has gone too far"),
            ((1.2, 1.10), (3.0, 1.20), "nearer to the target where both have gone too far"),
            ((1.1, 1.0), (3.0, f64::NAN), "it says nothing any more"),
        ] {
            let of = |(tokens_per_forward, perplexity)| merit(tokens_per_forward, perplexity, 5.0);
            assert!(of(better) > of(worse), "{why}: {better:?} against {worse:?}");
        }
        assert!(merit(1.0, 1.06, 6.5) > merit(9.0, 1.06, 5.0), "the limit is given");
    }
}
