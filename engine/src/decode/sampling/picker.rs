//! From the logits of a row to its token.

use super::history::History;
use super::noise::Noise;
use super::nucleus::{Candidate, last_kept};
use super::{Sampling, SamplingError};
use crate::kernels::{InstructionSet, argmax, exponentials};

/// Picks the tokens of one text. Its memory is reused.
#[derive(Debug)]
pub(in crate::decode) struct Picker {
    sampling: Sampling,
    set: InstructionSet,
    /// Only with penalties.
    history: Option<History>,
    /// Logits after bias, penalties and temperature.
    adjusted: Vec<f32>,
    /// Their exponentials, relative to the largest.
    weights: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Picker {
    /// Picks the most likely token.
    pub(in crate::decode) fn greedy(set: InstructionSet) -> Self {
        Self {
            sampling: Sampling::default(),
            set,
            history: None,
            adjusted: Vec::new(),
            weights: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Picks as `sampling` says, in a text that begins with `prompt`.
    pub(in crate::decode) fn new(
        sampling: Sampling,
        set: InstructionSet,
        vocab_size: usize,
        prompt: &[u32],
    ) -> Result<Self, SamplingError> {
        sampling.check(vocab_size)?;
        let history = sampling.has_penalties().then(|| History::of_prompt(prompt));
        Ok(Self { sampling, history, ..Self::greedy(set) })
    }

    /// Counts a token of the text, or a guess for one.
    pub(in crate::decode) fn push(&mut self, token: u32) {
        if let Some(history) = &mut self.history {
            history.push(token);
        }
    }

    /// Takes back one [`Picker::push`].
    pub(in crate::decode) fn pop(&mut self, token: u32) {
        if let Some(history) = &mut self.history {
            history.pop(token);
        }
    }

    /// The token after `position` tokens, all of which were counted.
    pub(in crate::decode) fn pick(&mut self, logits: &[f32], position: usize) -> u32 {
        if self.sampling.is_plain() {
            return argmax(logits);
        }
        self.adjust(logits);
        let likeliest = argmax(&self.adjusted);
        let highest = self.adjusted[likeliest as usize];
        if self.sampling.temperature == 0.0 || !highest.is_finite() {
            return likeliest;
        }
        self.weights.resize(logits.len(), 0.0);
        let total = exponentials(self.set, &self.adjusted, highest, &mut self.weights);
        let last = last_kept(&self.sampling, &self.weights, total, &mut self.candidates);
        self.draw(likeliest, last, Noise::new(self.sampling.seed, self.sampling.choice, position))
    }

    fn adjust(&mut self, logits: &[f32]) {
        let Sampling { presence_penalty, frequency_penalty, repetition_penalty, temperature, .. } = self.sampling;
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for &(token, bias) in &self.sampling.logit_bias {
            self.adjusted[token as usize] += bias;
        }
        for (token, seen) in self.history.iter().flat_map(History::iter) {
            let Some(logit) = self.adjusted.get_mut(token as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if seen.generated > 0 {
                *logit -= presence_penalty + frequency_penalty * seen.generated as f32;
            }
        }
        if temperature > 0.0 {
            self.adjusted.iter_mut().for_each(|logit| *logit /= temperature);
        }
    }

    /// The token with the highest sum of logit and noise, the lowest id among equals.
    fn draw(&self, likeliest: u32, last: Option<Candidate>, noise: Noise) -> u32 {
        /// Room for rounding, so that no token that wins is skipped.
        const SLACK: f64 = 1.001;
        let highest = self.adjusted[likeliest as usize];
        let score = |token: u32, distance| f64::from(self.adjusted[token as usize] - highest) + Noise::gumbel(distance);
        let mut best = (score(likeliest, noise.distance_from_one(likeliest)), likeliest);
        let mut needed = SLACK / best.0.exp();
        for (token, &weight) in (0..).zip(&self.weights) {
            // noise above x needs a distance below exp(-x)
            let distance = noise.distance_from_one(token);
            if distance > f64::from(weight) * needed || token == likeliest {
                continue;
            }
            let candidate = Candidate { weight, token };
            if last.is_some_and(|last| candidate.order(last).is_gt()) {
                continue;
            }
            let score = score(token, distance);
            if score > best.0 || (score >= best.0 && token < best.1) {
                best = (score, token);
                needed = SLACK / best.0.exp();
            }
        }
        best.1
    }
}
