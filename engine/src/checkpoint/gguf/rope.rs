//! Scaled rotary frequencies of Llama 3. Converters do not write its four parameters but the factors that follow from them: one number for
//! each pair of a head. We find the parameters again, so that one description serves all files.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::GgufError;
use crate::checkpoint::{ModelConfig, RopeScaling};

pub(super) const DEFAULT_THETA: f64 = 10_000.0;

/// Where files say what the original context was, after the name of the architecture; most do not.
pub(super) const ORIGINAL_CONTEXT_KEY: &str = "rope.scaling.original_context_length";

/// Parameters that every release of Llama 3.1 to 3.3 has in common (their `config.json`); only the factor differs.
const LOW_FREQUENCY_FACTOR: f64 = 1.0;
const HIGH_FREQUENCY_FACTOR: f64 = 4.0;
pub(super) const ORIGINAL_CONTEXT: u64 = 8192;
/// Factors are stored in f32.
const TOLERANCE: f64 = 1e-4;

/// `rope_scaling` of the configuration from which these factors were made; null where all of them are 1. Nothing where they are others.
pub(super) fn llama3_scaling(factors: &[f32], theta: f64, head_dim: usize, original_context: u64) -> Option<Value> {
    if factors.len() != head_dim / 2 {
        return None;
    }
    // The slowest pair turns less than once in the original context, so it has the whole factor.
    let factor: f64 = factors.last()?.to_string().parse().ok()?;
    let agree = |factor: f64| {
        let expected = llama3_factors(factor, theta, head_dim, original_context);
        factors
            .iter()
            .zip(expected)
            .all(|(&found, expected)| (f64::from(found) - expected).abs() <= TOLERANCE * expected)
    };
    match factor {
        _ if !agree(factor) => None,
        1.0 => Some(Value::Null),
        _ => Some(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW_FREQUENCY_FACTOR,
            "high_freq_factor": HIGH_FREQUENCY_FACTOR, "original_max_position_embeddings": original_context,
        })),
    }
}

/// By how much each pair turns more slowly: fast pairs not at all, slow ones by `factor`, and a blend between.
fn llama3_factors(factor: f64, theta: f64, head_dim: usize, original_context: u64) -> impl Iterator<Item = f64> {
    (0..head_dim / 2).map(move |pair| {
        let wavelength = TAU * theta.powf((2 * pair) as f64 / head_dim as f64);
        let turns = original_context as f64 / wavelength;
        let blend = (turns - LOW_FREQUENCY_FACTOR) / (HIGH_FREQUENCY_FACTOR - LOW_FREQUENCY_FACTOR);
        1.0 / ((1.0 - blend.clamp(0.0, 1.0)) / factor + blend.clamp(0.0, 1.0))
    })
}

/// The factors that a file of this configuration holds: of scaling as Llama 3 has it.
pub(super) fn factors(config: &ModelConfig) -> Option<Vec<f32>> {
    let Some(RopeScaling::Llama3 { factor, original_max_position_embeddings, .. }) = config.rope_scaling else {
        return None;
    };
    let original_context = original_max_position_embeddings as u64;
    let factors = llama3_factors(factor, config.rope_theta, config.head_dim, original_context);
    Some(factors.map(|factor| factor as f32).collect())
}

/// Whether the bounds between high and low frequencies are those that readers of factors assume.
pub(super) fn are_of_the_releases(low_freq_factor: f64, high_freq_factor: f64) -> bool {
    [(low_freq_factor, LOW_FREQUENCY_FACTOR), (high_freq_factor, HIGH_FREQUENCY_FACTOR)]
        .iter()
        .all(|(found, expected)| (found - expected).abs() < f64::EPSILON)
}

pub(super) fn unknown_factors(tensor: &str) -> GgufError {
    GgufError::Unsupported {
        key: tensor.to_owned(),
        found: "a set of rotary factors that no release of Llama 3 has".to_owned(),
        supported: format!(
            "factors that follow from low_freq_factor {LOW_FREQUENCY_FACTOR}, high_freq_factor {HIGH_FREQUENCY_FACTOR} and an original \
             context of {ORIGINAL_CONTEXT}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_llama_3_are_found_from_their_factors() {
        for (factor, theta, head_dim) in [(8.0, 500_000.0, 128), (32.0, 500_000.0, 64), (1.0, 10_000.0, 64)] {
            let factors: Vec<f32> =
                llama3_factors(factor, theta, head_dim, ORIGINAL_CONTEXT).map(|factor| factor as f32).collect();
            let found = llama3_scaling(&factors, theta, head_dim, ORIGINAL_CONTEXT).unwrap();
            let expected = if factor > 1.0 { json!(factor) } else { Value::Null };
            assert_eq!(found["factor"], expected);
            let mut other = factors;
            other[head_dim / 4] *= 1.01;
            assert!(
                llama3_scaling(&other, theta, head_dim, ORIGINAL_CONTEXT).is_none(),
                "{factor}: one factor changed"
            );
            assert!(llama3_scaling(&other[1..], theta, head_dim, ORIGINAL_CONTEXT).is_none());
        }
    }

    #[test]
    fn factors_are_those_of_the_release() {
        // Llama 3.1 8B: base 500,000, heads of 128, factor 8. The pairs before the 29th turn more than four times in 8192 positions, those
        // from the 36th on less than once.
        let factors: Vec<f64> = llama3_factors(8.0, 500_000.0, 128, ORIGINAL_CONTEXT).collect();
        assert!(factors[..29].iter().all(|&factor| (factor - 1.0).abs() < 1e-9));
        assert!(factors[29..35].iter().all(|&factor| factor > 1.0 && factor < 8.0));
        assert!(factors[35..].iter().all(|&factor| (factor - 8.0).abs() < 1e-9));
    }
}
