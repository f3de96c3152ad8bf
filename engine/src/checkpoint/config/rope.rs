//! Rotary frequencies and their scaling for contexts longer than a model was first trained on.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigError, require, size};

/// A change of the rotary frequencies. Serializes to what `rope_scaling` of `config.json` holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Every frequency is divided.
    Linear {
        /// The divisor: by how much the context grew.
        factor: f64,
    },
    /// Low frequencies are divided, high ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Frequencies that turn fewer times in the original context are low.
        low_freq_factor: f64,
        /// Frequencies that turn more times in the original context are high.
        high_freq_factor: f64,
        /// The original context.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// Checks the factors.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let (Self::Linear { factor } | Self::Llama3 { factor, .. }) = *self;
        let at_least_one = factor.is_finite() && factor >= 1.0;
        size("rope_scaling.factor", factor, at_least_one, || "a number of at least 1".to_owned())?;
        let Self::Llama3 { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings, .. } = *self
        else {
            return Ok(());
        };
        size("rope_scaling.low_freq_factor", low, low.is_finite() && low > 0.0, || "a positive number".to_owned())?;
        size("rope_scaling.high_freq_factor", high, high.is_finite() && high > low, || {
            format!("larger than `low_freq_factor`, which is {low}")
        })?;
        let original = original_max_position_embeddings;
        let field = "rope_scaling.original_max_position_embeddings";
        size(field, original, (1..=1 << 24).contains(&original), || format!("from 1 to {}", 1 << 24))
    }

    /// The scaled frequency, in radians per position.
    fn scale(&self, frequency: f64) -> f64 {
        match *self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let turns = original_max_position_embeddings as f64 * frequency / TAU;
                let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = kept.clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

/// Radians per position of each pair of a head: `head_dim / 2` values.
pub(super) fn frequencies(theta: f64, head_dim: usize, scaling: Option<RopeScaling>) -> Vec<f32> {
    let plain = (0..head_dim / 2).map(|i| theta.powf(-((2 * i) as f64) / head_dim as f64));
    plain.map(|frequency| scaling.map_or(frequency, |scaling| scaling.scale(frequency)) as f32).collect()
}

/// Base and scaling of the rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rope {
    pub(super) theta: f64,
    pub(super) scaling: Option<RopeScaling>,
}

/// The fields about rotary frequencies, where transformers writes them: version 5 everything into `rope_parameters`, older ones the
/// base beside the other fields and the rest into `rope_scaling`, whose `rope_type` was `type` once.
#[derive(Deserialize)]
pub(super) struct RawRope {
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: usize,
    original_max_position_embeddings: Option<usize>,
}

impl RawRope {
    /// The context, which some scalings depend on.
    pub(super) fn max_position_embeddings(&self) -> usize {
        self.max_position_embeddings
    }
}

#[derive(Deserialize)]
struct RawParameters {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

const DEFAULT_THETA: f64 = 10_000.0;
const SUPPORTED: &str =
    "null, or an object whose `rope_type` is \"default\", \"linear\" (with `factor`) or \"llama3\" (with its factors)";

impl TryFrom<RawRope> for Rope {
    type Error = ConfigError;

    fn try_from(raw: RawRope) -> Result<Self, ConfigError> {
        require_whole_heads("partial_rotary_factor", raw.partial_rotary_factor)?;
        let given = |value: &Option<Value>| value.clone().filter(|value| !value.is_null());
        // transformers reads the older field first
        let (field, found) = match (given(&raw.rope_scaling), given(&raw.rope_parameters)) {
            (Some(scaling), _) => ("rope_scaling", scaling),
            (None, Some(parameters)) => ("rope_parameters", parameters),
            (None, None) => return Ok(Self { theta: raw.rope_theta.unwrap_or(DEFAULT_THETA), scaling: None }),
        };
        let unsupported = || ConfigError::Unsupported { field, found: found.to_string(), supported: SUPPORTED };
        let parameters: RawParameters = serde_json::from_value(found.clone()).map_err(|_| unsupported())?;
        require_whole_heads(field, parameters.partial_rotary_factor)?;
        let theta = parameters.rope_theta.or(raw.rope_theta).unwrap_or(DEFAULT_THETA);
        let original = raw.original_max_position_embeddings.or(parameters.original_max_position_embeddings);
        let scaling = parameters.scaling(original.unwrap_or(raw.max_position_embeddings), unsupported)?;
        Ok(Self { theta, scaling })
    }
}

impl RawParameters {
    /// The scaling, which may be none; `unsupported` where it is another one or a factor is missing.
    fn scaling(
        self,
        original_max_position_embeddings: usize,
        unsupported: impl Fn() -> ConfigError,
    ) -> Result<Option<RopeScaling>, ConfigError> {
        let given = |factor: Option<f64>| factor.ok_or_else(&unsupported);
        match self.rope_type.or(self.r#type).as_deref() {
            Some("default") if self.factor.is_none() => Ok(None),
            Some("linear") => Ok(Some(RopeScaling::Linear { factor: given(self.factor)? })),
            Some("llama3") => Ok(Some(RopeScaling::Llama3 {
                factor: given(self.factor)?,
                low_freq_factor: given(self.low_freq_factor)?,
                high_freq_factor: given(self.high_freq_factor)?,
                original_max_position_embeddings,
            })),
            _ => Err(unsupported()),
        }
    }
}

fn require_whole_heads(field: &'static str, factor: Option<f64>) -> Result<(), ConfigError> {
    let whole = factor.is_none_or(|factor| (factor - 1.0).abs() < f64::EPSILON);
    require(field, factor, whole, "a `partial_rotary_factor` of 1: whole heads are rotated")
}
