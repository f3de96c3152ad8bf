//! The rule that everything rests on: a row's result depends neither on the rows beside it nor on the number of threads, so Jacobi decoding
//! gives the tokens of autoregressive decoding.

use std::num::NonZeroUsize;

use cllm_engine::checkpoint::{EosTokenIds, Family, LayerType, RopeScaling, SlidingWindow};
use cllm_engine::{
    DecodeOptions, InstructionSet, KvCache, Model, ModelConfig, Strategy as Decoding, Workspace, generate,
    generate_with_trajectories,
};
use proptest::prelude::*;

use crate::support::{cases, config, instruction_sets, model};

/// Shapes of models: grouped heads, tied or not, sizes on and off multiples of vectors and panels.
pub(crate) fn configs() -> impl Strategy<Value = ModelConfig> {
    let heads = prop::sample::select(vec![(1, 1), (2, 1), (4, 2), (3, 3), (6, 2)]);
    let widths = (1_usize..70, 1_usize..70, prop::sample::select(vec![2_usize, 6, 8, 16, 34, 64]));
    let sizes = (heads, widths, 2_usize..300, any::<bool>());
    (sizes, variations()).prop_map(|((heads, widths, vocab_size, tied), variation)| {
        let layers = variation.num_hidden_layers;
        ModelConfig {
            vocab_size,
            hidden_size: widths.0,
            intermediate_size: widths.1,
            num_hidden_layers: layers,
            num_attention_heads: heads.0,
            num_key_value_heads: heads.1,
            head_dim: widths.2,
            max_position_embeddings: 160,
            tie_word_embeddings: tied,
            eos_token_id: Some(EosTokenIds::One(1)),
            ..variation
        }
    })
}

/// What families vary: biases, norms of heads, scaled frequencies, and windows around the sizes of blocks, shorter than the text as a rule.
fn variations() -> impl Strategy<Value = ModelConfig> {
    let scaling = prop::sample::select(vec![None, Some(RopeScaling::Linear { factor: 4.0 })]);
    let window = (prop_oneof![1_usize..12, 60_usize..70, 1_usize..160], prop::collection::vec(any::<bool>(), 3));
    let window = prop::option::weighted(0.7, window);
    let family = prop::sample::select(Family::ALL.to_vec());
    (family, 1_usize..4, scaling, any::<bool>(), window).prop_map(|(family, layers, rope_scaling, bias, window)| {
        let layer_type = |slides| if slides { LayerType::SlidingAttention } else { LayerType::FullAttention };
        let window = window.filter(|_| family != Family::Llama).map(|(positions, slides)| {
            let slides = slides.iter().map(|slides| *slides || family == Family::Mistral);
            SlidingWindow { positions, layer_types: slides.map(layer_type).take(layers).collect() }
        });
        ModelConfig {
            family,
            num_hidden_layers: layers,
            rope_scaling,
            attention_bias: bias && matches!(family, Family::Llama | Family::Qwen3),
            sliding_window: window,
            ..config()
        }
    })
}

fn options(block_size: usize, lookup: bool, max_new_tokens: usize) -> DecodeOptions {
    let block_size = NonZeroUsize::new(block_size).unwrap();
    DecodeOptions { strategy: Decoding::Jacobi { block_size, lookup }, max_new_tokens, stop_at_eos: true }
}

fn autoregressive(model: &Model, prompt: &[u32], max_new_tokens: usize) -> Vec<u32> {
    let options = DecodeOptions { strategy: Decoding::Autoregressive, max_new_tokens, stop_at_eos: true };
    let generation = generate(model, &mut Workspace::new(model), prompt, options).unwrap();
    assert_eq!(generation.statistics.decode_forwards, generation.tokens.len() - 1);
    generation.tokens
}

/// Logits of all tokens, computed in groups of the sizes given.
fn logits(model: &Model, tokens: &[u32], groups: &[usize]) -> Vec<u32> {
    let (mut workspace, mut cache) = (Workspace::new(model), KvCache::new(model, tokens.len()));
    let mut bits = Vec::new();
    let mut sizes = groups.iter().copied().cycle();
    let mut rest = tokens;
    while !rest.is_empty() {
        let (group, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
        let logits = model.forward(&mut workspace, &mut cache, group).unwrap();
        bits.extend((0..logits.rows()).flat_map(|row| logits.row(row)).map(|logit| logit.to_bits()));
        rest = after;
    }
    bits
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn jacobi_gives_the_tokens_of_autoregressive_decoding(
        config in configs(),
        seed: u64,
        prompt in prop::collection::vec(any::<u32>(), 1..80),
        block_sizes in prop::collection::vec((1_usize..=64, any::<bool>()), 3),
        max_new_tokens in 1_usize..70,
        first_block in 1_usize..64,
    ) {
        let prompt: Vec<u32> = prompt.iter().map(|token| token % config.vocab_size as u32).collect();
        for set in instruction_sets() {
            let reference = autoregressive(&model(&config, seed, 1, set), &prompt, max_new_tokens);
            for threads in [1, 2] {
                let model = model(&config, seed, threads, set);
                let mut workspace = Workspace::new(&model);
                for &(block_size, lookup) in &block_sizes {
                    let options = options(block_size, lookup, max_new_tokens);
                    let generation = generate(&model, &mut workspace, &prompt, options).unwrap();
                    prop_assert_eq!(&generation.tokens, &reference, "{} {:?}", set, options);
                    let first = NonZeroUsize::new(first_block).unwrap();
                    let (blocks, _) = generate_with_trajectories(&model, &mut workspace, &prompt, options, first).unwrap();
                    prop_assert_eq!(&blocks.tokens, &reference, "in blocks: {} {:?}", set, options);
                    prop_assert_eq!(blocks.finish_reason, generation.finish_reason);
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company(
        config in configs(),
        seed: u64,
        tokens in prop::collection::vec(any::<u32>(), 1..160),
        groups in prop::collection::vec(1_usize..100, 1..6),
    ) {
        let tokens: Vec<u32> = tokens.iter().map(|token| token % config.vocab_size as u32).collect();
        for set in instruction_sets() {
            let one_by_one = logits(&model(&config, seed, 1, set), &tokens, &[1]);
            for threads in [1, 2, 5] {
                let grouped = logits(&model(&config, seed, threads, set), &tokens, &groups);
                prop_assert!(one_by_one == grouped, "{} with {} threads", set, threads);
            }
        }
    }
}

/// Large enough that linear layers, attention and norms are really split between threads.
#[test]
fn a_model_worth_sharing_computes_the_same_on_any_number_of_threads() {
    let config = ModelConfig {
        hidden_size: 128,
        intermediate_size: 320,
        num_attention_heads: 8,
        head_dim: 32,
        vocab_size: 600,
        max_position_embeddings: 400,
        ..config()
    };
    let tokens: Vec<u32> = (0..300).map(|i| i * 37 % 600).collect();
    for set in instruction_sets() {
        let reference = logits(&model(&config, 3, 1, set), &tokens, &[1]);
        for threads in [2, 3, 4] {
            let model = model(&config, 3, threads, set);
            for groups in [&[1][..], &[8], &[300], &[64, 5]] {
                assert!(logits(&model, &tokens, groups) == reference, "{set}, {threads} threads, groups {groups:?}");
            }
        }
    }
}

#[test]
fn callers_on_several_threads_get_what_each_would_get_alone() {
    let config = ModelConfig { hidden_size: 128, intermediate_size: 256, head_dim: 32, ..config() };
    let model = model(&config, 4, 2, InstructionSet::detect());
    let prompts: Vec<Vec<u32>> = (1..5).map(|i| (0..20).map(|j| (i * j + i) % 270).collect()).collect();
    let alone: Vec<_> = prompts.iter().map(|prompt| autoregressive(&model, prompt, 40)).collect();
    for _ in 0..5 {
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = prompts
                .iter()
                .map(|prompt| {
                    scope.spawn(|| generate(&model, &mut Workspace::new(&model), prompt, options(8, true, 40)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap().tokens).collect()
        });
        assert_eq!(together, alone);
    }
}

#[test]
fn truncating_the_cache_is_never_having_written() {
    let config = config();
    let tokens: Vec<u32> = (0..90).map(|i| i * 13 % 270).collect();
    let model = model(&config, 5, 2, InstructionSet::detect());
    let reference = logits(&model, &tokens, &[7]);
    let width = config.vocab_size;
    for keep in [0, 1, 7, 8, 63, 64, 65, 80] {
        let (mut workspace, mut cache) = (Workspace::new(&model), KvCache::new(&model, 96));
        model.forward(&mut workspace, &mut cache, &tokens[..keep.max(1)]).unwrap();
        let wrong: Vec<u32> = tokens[keep.max(1)..].iter().map(|token| (token + 1) % 270).collect();
        model.forward(&mut workspace, &mut cache, &wrong).unwrap();
        cache.truncate(keep);
        assert_eq!(cache.len(), keep);
        let logits = model.forward(&mut workspace, &mut cache, &tokens[keep..]).unwrap();
        let bits: Vec<u32> = (0..logits.rows()).flat_map(|row| logits.row(row)).map(|logit| logit.to_bits()).collect();
        assert!(bits == reference[keep * width..], "after truncating to {keep}");
        assert_eq!(cache.len(), tokens.len());
    }
}
