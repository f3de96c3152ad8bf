//! Ends of texts, errors, statistics and trajectories.

use std::num::NonZeroUsize;

use cllm_engine::checkpoint::EosTokenIds;
use cllm_engine::{
    DecodeError, DecodeOptions, FinishReason, ForwardError, InstructionSet, JacobiTrajectory, KvCache, Model,
    ModelConfig, Sequence, Strategy as Decoding, Workspace, generate, generate_with_trajectories,
};
use proptest::prelude::*;

use crate::support::{cases, config, model};

fn jacobi(block_size: usize, lookup: bool) -> Decoding {
    Decoding::Jacobi { block_size: NonZeroUsize::new(block_size).unwrap(), lookup }
}

fn options(strategy: Decoding, max_new_tokens: usize) -> DecodeOptions {
    DecodeOptions { strategy, max_new_tokens, stop_at_eos: true }
}

/// Attention and feed-forward hardly matter in it, so it falls into short cycles: guesses are accepted.
fn repetitive_model() -> Model {
    let config = ModelConfig { vocab_size: 12, hidden_size: 8, tie_word_embeddings: true, ..config() };
    model(&config, 11, 1, InstructionSet::detect())
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn statistics_add_up(
        seed in 0_u64..50,
        prompt in prop::collection::vec(0_u32..12, 1..20),
        block_size in 1_usize..20,
        lookup: bool,
        max_new_tokens in 1_usize..80,
    ) {
        let config = ModelConfig { vocab_size: 12, tie_word_embeddings: seed % 2 == 0, ..config() };
        let model = model(&config, seed, 1, InstructionSet::detect());
        let options = options(jacobi(block_size, lookup), max_new_tokens);
        let generation = generate(&model, &mut Workspace::new(&model), &prompt, options).unwrap();
        let statistics = &generation.statistics;
        let after_first = statistics.generated_tokens - 1;
        prop_assert_eq!(statistics.prompt_tokens, prompt.len());
        prop_assert_eq!(statistics.generated_tokens, generation.tokens.len());
        let histogram = statistics.accepted_len_histogram.iter().enumerate();
        let sum: u64 = histogram.map(|(length, count)| length as u64 * count).sum();
        prop_assert_eq!(sum, after_first as u64);
        prop_assert_eq!(statistics.accepted_len_histogram.iter().sum::<u64>(), statistics.decode_forwards as u64);
        let accepted = after_first - statistics.decode_forwards;
        prop_assert_eq!(statistics.accepted_from_lookup + statistics.accepted_from_predictions, accepted);
        prop_assert_eq!(statistics.fast_forwarded_tokens + statistics.stationary_tokens, accepted);
        prop_assert!(lookup || statistics.accepted_from_lookup == 0);
        if statistics.decode_forwards > 0 {
            let expected = after_first as f64 / statistics.decode_forwards as f64;
            prop_assert!((statistics.tokens_per_forward() - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn trajectories_end_in_the_text_and_cover_it(
        seed in 0_u64..50,
        prompt in prop::collection::vec(0_u32..12, 1..20),
        block_size in 1_usize..20,
        first_block in 1_usize..20,
        max_new_tokens in 1_usize..80,
    ) {
        let config = ModelConfig { vocab_size: 12, ..config() };
        let model = model(&config, seed, 1, InstructionSet::detect());
        let options = options(jacobi(block_size, seed % 2 == 0), max_new_tokens);
        let first = NonZeroUsize::new(first_block).unwrap();
        let (generation, trajectories) =
            generate_with_trajectories(&model, &mut Workspace::new(&model), &prompt, options, first).unwrap();
        let mut covered = 0;
        for (index, JacobiTrajectory { position, states }) in trajectories.iter().enumerate() {
            prop_assert_eq!(*position, covered);
            let fixed_point = states.last().unwrap();
            covered += fixed_point.len();
            prop_assert_eq!(fixed_point, &generation.tokens[*position..covered]);
            let length = if index == 0 { first_block.min(block_size) } else { block_size };
            prop_assert!(fixed_point.len() == length || index + 1 == trajectories.len());
            for pair in states.windows(2) {
                prop_assert_eq!(pair[0].len(), fixed_point.len());
                prop_assert_ne!(&pair[0], &pair[1]);
            }
            // Each state is what the model makes of the one before it: the right prefix grows with every forward.
            let right = |state: &[u32]| state.iter().zip(fixed_point).take_while(|(a, b)| a == b).count();
            prop_assert!(states.windows(2).all(|pair| right(&pair[0]) < right(&pair[1])));
            let mut text = prompt.clone();
            text.extend(&generation.tokens[..*position]);
            for pair in states.windows(2) {
                prop_assert_eq!(&jacobi_step(&model, &text, &pair[0]), &pair[1]);
            }
        }
        prop_assert_eq!(covered, generation.tokens.len());
    }
}

/// One Jacobi iteration without a cache, by definition.
fn jacobi_step(model: &Model, text: &[u32], guesses: &[u32]) -> Vec<u32> {
    let tokens = [text, &guesses[..guesses.len() - 1]].concat();
    let mut cache = KvCache::new(model, tokens.len());
    let mut workspace = Workspace::new(model);
    let logits = model.forward(&mut workspace, &mut cache, &tokens).unwrap();
    (text.len() - 1..tokens.len()).map(|row| logits.argmax(row)).collect()
}

#[test]
fn guesses_that_are_right_save_forwards() {
    let model = repetitive_model();
    let mut saved = [0.0; 2];
    for (i, lookup) in [false, true].into_iter().enumerate() {
        for start in 0..12 {
            let options = options(jacobi(8, lookup), 60);
            let generation = generate(&model, &mut Workspace::new(&model), &[start, 3], options).unwrap();
            saved[i] += generation.statistics.tokens_per_forward() / 12.0;
        }
    }
    assert!(saved.iter().all(|&mean| mean > 1.2), "tokens per forward without and with lookup: {saved:?}");
}

#[test]
fn a_text_ends_at_eos_and_includes_it() {
    let free = config();
    let prompt = [5, 6, 7];
    let unstopped = {
        let model = model(&free, 21, 1, InstructionSet::detect());
        let options = DecodeOptions { strategy: Decoding::Autoregressive, max_new_tokens: 60, stop_at_eos: false };
        let generation = generate(&model, &mut Workspace::new(&model), &prompt, options).unwrap();
        assert_eq!(generation.finish_reason, FinishReason::Length);
        assert_eq!(generation.tokens.len(), 60);
        generation.tokens
    };
    // The token in the middle of that text becomes EOS.
    let eos = unstopped[30];
    let end = unstopped.iter().position(|&token| token == eos).unwrap();
    let config = ModelConfig { eos_token_id: Some(EosTokenIds::Several(vec![269, eos])), ..free };
    let model = model(&config, 21, 1, InstructionSet::detect());
    for strategy in [Decoding::Autoregressive, jacobi(1, false), jacobi(16, true), jacobi(64, false)] {
        let generation = generate(&model, &mut Workspace::new(&model), &prompt, options(strategy, 60)).unwrap();
        assert_eq!(generation.tokens, unstopped[..=end], "{strategy:?}");
        assert_eq!(generation.finish_reason, FinishReason::Stop);
    }
}

#[test]
fn the_context_ends_a_text() {
    let model = model(&config(), 22, 1, InstructionSet::detect());
    let prompt: Vec<u32> = (1..92).collect();
    for strategy in [Decoding::Autoregressive, jacobi(16, false)] {
        let options = DecodeOptions { strategy, max_new_tokens: 1000, stop_at_eos: false };
        let generation = generate(&model, &mut Workspace::new(&model), &prompt, options).unwrap();
        assert_eq!((generation.tokens.len(), generation.finish_reason), (5, FinishReason::Length));
    }
}

#[test]
fn steps_give_the_text_piece_by_piece() {
    let model = repetitive_model();
    let mut workspace = Workspace::new(&model);
    let options = options(jacobi(6, true), 40);
    let whole = generate(&model, &mut workspace, &[4, 5], options).unwrap();
    let mut sequence = Sequence::start(&model, &[4, 5], options).unwrap();
    let mut pieces = Vec::new();
    while sequence.finish_reason().is_none() {
        let piece = sequence.step(&model, &mut workspace).unwrap();
        assert!(!piece.is_empty() && piece.len() <= 6);
        pieces.extend_from_slice(piece);
        assert_eq!(sequence.tokens(), pieces);
    }
    assert_eq!(pieces, whole.tokens);
    assert!(sequence.step(&model, &mut workspace).unwrap().is_empty(), "nothing after the end");
    assert_eq!(sequence.statistics().decode_forwards, whole.statistics.decode_forwards);
}

#[test]
fn what_cannot_be_decoded_is_refused_with_a_sentence() {
    let model = model(&config(), 23, 1, InstructionSet::detect());
    let start = |prompt: &[u32], max_new_tokens| {
        Sequence::start(&model, prompt, options(Decoding::Autoregressive, max_new_tokens)).err()
    };
    assert_eq!(start(&[], 5), Some(DecodeError::EmptyPrompt));
    assert_eq!(start(&[1], 0), Some(DecodeError::NothingToGenerate));
    let too_long = start(&[1; 96], 5).unwrap();
    assert_eq!(too_long, DecodeError::PromptTooLong { prompt: 96, context: 96 });
    let message = too_long.to_string();
    assert!(
        message.contains("the prompt has 96 tokens") && message.contains("context of the model is 96"),
        "{message}"
    );
    assert_eq!(start(&[1; 95], 5), None);
    let unknown = generate(&model, &mut Workspace::new(&model), &[270], options(jacobi(4, true), 5));
    let expected = ForwardError::TokenOutsideVocabulary { token: 270, vocab_size: 270 };
    assert_eq!(unknown.unwrap_err(), DecodeError::Forward(expected));
}

#[test]
fn a_refused_forward_leaves_the_cache_alone() {
    let model = model(&config(), 24, 1, InstructionSet::detect());
    let (mut workspace, mut cache) = (Workspace::new(&model), KvCache::new(&model, 4));
    model.forward(&mut workspace, &mut cache, &[1, 2, 3]).unwrap();
    let full = model.forward(&mut workspace, &mut cache, &[4, 5]).unwrap_err();
    assert_eq!(full, ForwardError::CacheFull { rows: 2, len: 3, capacity: 4 });
    assert_eq!(model.forward(&mut workspace, &mut cache, &[]).unwrap_err(), ForwardError::Empty);
    assert_eq!(cache.len(), 3);
}
