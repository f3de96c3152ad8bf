use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use super::{Picker, Sampling};
use crate::kernels::InstructionSet;

/// Logits of ten tokens, no two alike: the likeliest is 3, then 7, 0, …
const LOGITS: [f32; 10] = [2.0, -1.0, 0.5, 4.0, 0.0, -3.0, 1.0, 3.0, -0.5, -2.0];

fn probabilities(logits: &[f32], temperature: f32) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Picks at many positions.
fn picks(sampling: &Sampling, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut picker = Picker::new(sampling.clone(), InstructionSet::detect(), LOGITS.len(), prompt).unwrap();
    (0..count).map(|position| picker.pick(&LOGITS, position)).collect()
}

#[test]
fn tokens_come_as_often_as_they_are_likely() {
    const COUNT: usize = 40_000;
    for (seed, temperature) in [(1, 1.0), (2, 0.5), (3, 2.0)] {
        let sampling = Sampling { temperature, seed, ..Sampling::default() };
        let picks = picks(&sampling, &[], COUNT);
        for (token, probability) in (0..).zip(probabilities(&LOGITS, temperature)) {
            let share = picks.iter().filter(|pick| **pick == token).count() as f64 / COUNT as f64;
            let deviation = (probability * (1.0 - probability) / COUNT as f64).sqrt();
            assert!((share - probability).abs() < 5.0 * deviation + 1e-9, "{token}: {share} instead of {probability}");
        }
    }
}

#[test]
fn only_the_tokens_that_the_filters_keep_are_drawn() {
    let [k1, k3, k20] = [1, 3, 20].map(NonZeroUsize::new);
    let flat = Sampling { temperature: 5.0, ..Sampling::default() };
    let likely = Sampling { temperature: 1.0, ..Sampling::default() };
    // at temperature 1 the three likeliest have 0.62, 0.23 and 0.08
    for (sampling, expected) in [
        (Sampling { top_k: k1, ..flat.clone() }, &[3][..]),
        (Sampling { top_k: k3, ..flat.clone() }, &[0, 3, 7]),
        (Sampling { top_k: k20, ..flat.clone() }, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Sampling { top_p: 0.5, ..likely.clone() }, &[3]),
        (Sampling { top_p: 0.7, ..likely.clone() }, &[3, 7]),
        (Sampling { top_p: 0.85, ..likely.clone() }, &[0, 3, 7]),
        (Sampling { top_k: k3, top_p: 0.7, ..likely.clone() }, &[3, 7]),
        (Sampling { min_p: 0.3, ..likely.clone() }, &[3, 7]),
        (Sampling { min_p: 1.0, ..likely.clone() }, &[3]),
        (Sampling { top_p: 0.85, min_p: 0.2, ..likely }, &[3, 7]),
        (Sampling { logit_bias: vec![(3, -100.0), (5, 100.0)], ..flat }, &[5]),
    ] {
        let found: BTreeSet<u32> = picks(&sampling, &[], 20_000).into_iter().collect();
        assert_eq!(found, expected.iter().copied().collect(), "{sampling:?}");
    }
}

#[test]
fn penalties_take_what_they_should_from_the_logits() {
    let greedy = Sampling::default();
    // Token 3 leads 7 by 1, 7 leads 0 by 1; the prompt is [3], then 3 and 7 are generated, 3 once more.
    for (sampling, expected) in [
        (greedy.clone(), [3, 3, 3, 3]),
        (Sampling { presence_penalty: 1.5, ..greedy.clone() }, [3, 7, 3, 3]),
        (Sampling { frequency_penalty: 1.1, ..greedy.clone() }, [3, 7, 3, 0]),
        (Sampling { repetition_penalty: 1.5, ..greedy.clone() }, [7, 7, 3, 3]),
        (Sampling { presence_penalty: -3.0, ..greedy.clone() }, [3, 3, 3, 3]),
        (Sampling { logit_bias: vec![(0, 2.5)], ..greedy }, [0, 0, 0, 0]),
    ] {
        let mut picker = Picker::new(sampling.clone(), InstructionSet::detect(), LOGITS.len(), &[3]).unwrap();
        let mut found = vec![picker.pick(&LOGITS, 1)];
        for token in [3, 7, 3] {
            picker.push(token);
            found.push(picker.pick(&LOGITS, 1));
        }
        assert_eq!(found, expected, "{sampling:?}");
        for token in [3, 7, 3] {
            picker.pop(token);
        }
        assert_eq!(picker.pick(&LOGITS, 1), expected[0], "what is taken back leaves no trace: {sampling:?}");
    }
}

#[test]
fn draws_depend_on_seed_choice_and_position_and_on_nothing_else() {
    let sampling = Sampling { temperature: 3.0, ..Sampling::default() };
    let reference = picks(&sampling, &[], 200);
    assert_eq!(picks(&sampling, &[1, 2], 200), reference);
    for other in [Sampling { seed: 1, ..sampling.clone() }, Sampling { choice: 1, ..sampling }] {
        let differing = picks(&other, &[], 200).iter().zip(&reference).filter(|(a, b)| a != b).count();
        assert!(differing > 80, "{other:?}: {differing}");
    }
    assert!(reference.windows(2).any(|pair| pair[0] != pair[1]));
}

#[test]
fn values_without_a_meaning_are_refused_with_a_sentence() {
    let good = Sampling { temperature: 1.0, ..Sampling::default() };
    assert_eq!(good.check(10), Ok(()));
    for (sampling, expected) in [
        (Sampling { temperature: -0.1, ..good.clone() }, "temperature is -0.1, but must be 0 or a positive number"),
        (Sampling { temperature: f32::NAN, ..good.clone() }, "temperature is NaN, but must be 0 or a positive number"),
        (Sampling { top_p: 0.0, ..good.clone() }, "top_p is 0, but must be more than 0 and at most 1"),
        (Sampling { min_p: 1.5, ..good.clone() }, "min_p is 1.5, but must be from 0 to 1"),
        (
            Sampling { presence_penalty: f32::INFINITY, ..good.clone() },
            "presence_penalty is inf, but must be a finite number",
        ),
        (
            Sampling { repetition_penalty: 0.0, ..good.clone() },
            "repetition_penalty is 0, but must be a positive number",
        ),
        (
            Sampling { logit_bias: vec![(10, 1.0)], ..good.clone() },
            "logit_bias is for token 10, but must be a token of the vocabulary",
        ),
        (Sampling { logit_bias: vec![(1, f32::NAN)], ..good }, "logit_bias is NaN, but must be a finite number"),
    ] {
        assert_eq!(sampling.check(10).unwrap_err().to_string(), expected);
    }
}
