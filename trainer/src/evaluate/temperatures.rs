//! The temperatures that are measured: greedy decoding always, others beside it.

use std::str::FromStr;

use cllm_engine::Sampling;
use rand::Rng;

use crate::data_order::random;
use crate::fine_tune::not_negative;

/// Decoding with the most likely tokens.
pub(super) const GREEDY: f64 = 0.0;

/// A list like `0,0.7`. It holds 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Temperatures {
    /// Those above 0, each once.
    sampled: Vec<f64>,
}

impl Temperatures {
    /// Those above 0, each once.
    pub fn sampled(&self) -> &[f64] {
        &self.sampled
    }
}

impl FromStr for Temperatures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut found: Vec<f64> = Vec::new();
        for part in text.split(',') {
            let temperature = not_negative(part.trim()).map_err(|problem| format!("`{part}`: {problem}"))?;
            if !found.contains(&temperature) {
                found.push(temperature);
            }
        }
        let count = found.len();
        found.retain(|&temperature| temperature > GREEDY);
        if found.len() == count {
            return Err(format!(
                "0 must be among them, since gates and status are about greedy decoding: write 0,{text}"
            ));
        }
        Ok(Self { sampled: found })
    }
}

/// How the answer to a prompt is drawn; `index` is that of the prompt in its data set.
pub(super) fn sampling(temperature: f64, seed: u64, index: u32) -> Sampling {
    Sampling {
        temperature: temperature as f32,
        seed: random(seed, "sample", u64::from(index)).random(),
        ..Sampling::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_zero_and_each_temperature_once() {
        for (text, expected) in [
            ("0", Some(vec![])),
            ("0,0.7", Some(vec![0.7])),
            ("1, 0 ,0.7,1", Some(vec![1.0, 0.7])),
            ("0,0", Some(vec![])),
            ("0.7", None),
            ("", None),
            ("0,", None),
            ("0,-1", None),
            ("0,inf", None),
            ("0,warm", None),
        ] {
            let found = text.parse::<Temperatures>().ok().map(|found| found.sampled);
            assert_eq!(found, expected, "{text}");
        }
        let said = "0.7".parse::<Temperatures>().unwrap_err();
        assert!(said.contains("0 must be among them") && said.contains("write 0,0.7"), "{said}");
    }

    #[test]
    fn the_noise_is_of_the_prompt() {
        let seed = |seed, index| sampling(0.7, seed, index).seed;
        assert_eq!(seed(1, 2), seed(1, 2));
        assert_ne!(seed(1, 2), seed(1, 3));
        assert_ne!(seed(1, 2), seed(2, 2));
        assert!((sampling(0.7, 1, 2).temperature - 0.7).abs() < 1e-6);
    }
}
