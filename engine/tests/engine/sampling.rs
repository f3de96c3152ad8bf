//! Sampled texts: Jacobi decoding draws the tokens that autoregressive decoding draws.

use std::num::NonZeroUsize;

use cllm_engine::{
    DecodeError, DecodeOptions, Model, ModelConfig, Sampling, Sequence, Strategy as Decoding, Workspace,
    generate_sampled,
};
use proptest::prelude::*;

use crate::support::{cases, config, instruction_sets, model};

const VOCABULARY: usize = 40;

pub(crate) fn samplings(vocabulary: usize) -> impl Strategy<Value = Sampling> {
    let temperature = prop::sample::select(vec![0.0_f32, 0.3, 1.0, 4.0]);
    let top_k = prop::option::of((1_usize..50).prop_map(|k| NonZeroUsize::new(k).unwrap()));
    let filters =
        (top_k, prop::sample::select(vec![1.0_f32, 0.95, 0.5]), prop::sample::select(vec![0.0_f32, 0.05, 0.5]));
    let penalties =
        prop::sample::select(vec![(0.0_f32, 0.0_f32, 1.0_f32), (2.0, 2.0, 1.0), (-2.0, 0.5, 1.3), (0.0, -1.0, 0.7)]);
    let bias = prop::collection::vec((0_u32..vocabulary as u32, -4.0_f32..4.0), 0..3);
    (temperature, filters, penalties, bias, any::<u64>(), 0_u32..3).prop_map(
        |(temperature, (top_k, top_p, min_p), penalties, logit_bias, seed, choice)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            presence_penalty: penalties.0,
            frequency_penalty: penalties.1,
            repetition_penalty: penalties.2,
            logit_bias,
            seed,
            choice,
        },
    )
}

fn decode(model: &Model, prompt: &[u32], strategy: Decoding, sampling: &Sampling) -> Vec<u32> {
    let options = DecodeOptions { strategy, max_new_tokens: 40, stop_at_eos: true };
    generate_sampled(model, &mut Workspace::new(model), prompt, options, sampling.clone()).unwrap().tokens
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn jacobi_draws_the_tokens_of_autoregressive_decoding(
        seed in 0_u64..20,
        sampling in samplings(VOCABULARY),
        // repetitive guesses count tokens that the text may never have
        prompt in prop::collection::vec(0_u32..4, 1..20),
        block_sizes in prop::collection::vec((1_usize..=24, any::<bool>()), 4),
    ) {
        let config = ModelConfig { vocab_size: VOCABULARY, ..config() };
        for set in instruction_sets() {
            let model = model(&config, seed, 1, set);
            let reference = decode(&model, &prompt, Decoding::Autoregressive, &sampling);
            for &(block_size, lookup) in &block_sizes {
                let block_size = NonZeroUsize::new(block_size).unwrap();
                let found = decode(&model, &prompt, Decoding::Jacobi { block_size, lookup }, &sampling);
                prop_assert_eq!(&found, &reference, "{}, n = {}", set, block_size);
            }
        }
    }
}

#[test]
fn a_value_without_a_meaning_is_refused_before_anything_is_computed() {
    let model = model(&config(), 1, 1, instruction_sets()[0]);
    let options = DecodeOptions { strategy: Decoding::Autoregressive, max_new_tokens: 4, stop_at_eos: true };
    let sampling = Sampling { top_p: 2.0, ..Sampling::default() };
    let refused = Sequence::start_sampled(&model, &[1], options, sampling).unwrap_err();
    assert!(matches!(refused, DecodeError::Sampling(_)));
    assert_eq!(refused.to_string(), "top_p is 2, but must be more than 0 and at most 1");
}
