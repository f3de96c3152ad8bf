//! Gumbel noise from a counter: a function of seed, choice, position and token, so that it is the same whenever it is asked for.

use crate::random::mix;

/// The noise of all tokens at one position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    key: u64,
}

impl Noise {
    /// `position` counts the tokens of the text before the one that is drawn, prompt included.
    pub(super) fn new(seed: u64, choice: u32, position: usize) -> Self {
        Self { key: mix(mix(mix(seed) ^ u64::from(choice)) ^ position as u64) }
    }

    /// Uniform between 0 and 1, both excluded, given as its distance from 1.
    pub(super) fn distance_from_one(self, token: u32) -> f64 {
        /// 2⁻⁵³
        const STEP: f64 = 1.110_223_024_625_156_5e-16;
        ((mix(self.key ^ u64::from(token)) >> 11) as f64 + 0.5) * STEP
    }

    /// Gumbel noise of a token, from its [`Noise::distance_from_one`].
    pub(super) fn gumbel(distance: f64) -> f64 {
        // ln(1 - distance), exact for small distances, where the noise is large
        -(-(-distance).ln_1p()).ln()
    }
}
