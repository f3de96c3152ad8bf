//! As many rows as pay: the tokens stay what they are.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use cllm_engine::batch::{Batch, BatchOptions};
use cllm_engine::decode::adaptive::{CostCurve, Pace};
use cllm_engine::{
    DecodeOptions, Generation, InstructionSet, KvPool, Model, ModelConfig, Sampling, Strategy as Decoding, Workspace,
    forward_cost_within, generate_sampled,
};
use proptest::prelude::*;

use crate::support::{cases, config, model};

/// One text of a batch whose forwards have as many rows as pay.
fn adaptively(model: &Model, prompt: &[u32], block_size: usize, sampling: Sampling, pace: &mut Pace) -> Generation {
    let batch_options = BatchOptions { pace: Some(pace.clone()), prefix_cache: false };
    let mut batch = Batch::new(KvPool::unbounded(model), batch_options);
    let mut text = batch.start(model, prompt, options(jacobi(block_size)), sampling).unwrap();
    let mut workspace = Workspace::new(model);
    while text.finish_reason().is_none() {
        batch.step(model, &mut workspace, &mut [&mut text]).unwrap();
    }
    *pace = batch.into_pace().unwrap();
    text.into_generation().unwrap()
}

fn options(strategy: Decoding) -> DecodeOptions {
    DecodeOptions { strategy, max_new_tokens: 80, stop_at_eos: false }
}

fn jacobi(block_size: usize) -> Decoding {
    Decoding::Jacobi { block_size: NonZeroUsize::new(block_size).unwrap(), lookup: true }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn texts_are_those_of_autoregressive_decoding(
        seed in 0_u64..30,
        prompts in prop::collection::vec(prop::collection::vec(0_u32..12, 1..15), 1..4),
        limit in 1_usize..=16,
        flat: bool,
        temperature in prop::sample::select(vec![0.0_f32, 1.0]),
    ) {
        let model = model(&ModelConfig { vocab_size: 12, ..config() }, seed, 1, InstructionSet::detect());
        let seconds = |rows: usize| if flat { 1.0 } else { rows as f64 };
        let mut pace = Pace::new(CostCurve::new(&[1, 16].map(|rows| (rows, seconds(rows))), 0.0).unwrap());
        let mut workspace = Workspace::new(&model);
        let sampling = Sampling { temperature, seed, ..Sampling::default() };
        for prompt in &prompts {
            let reference =
                generate_sampled(&model, &mut workspace, prompt, options(Decoding::Autoregressive), sampling.clone());
            let found = adaptively(&model, prompt, limit, sampling.clone(), &mut pace);
            prop_assert_eq!(found.tokens, reference.unwrap().tokens);
        }
    }
}

#[test]
fn free_rows_are_used_and_dear_ones_are_not() {
    let config = ModelConfig { vocab_size: 12, hidden_size: 8, tie_word_embeddings: true, ..config() };
    let model = model(&config, 11, 1, InstructionSet::detect());
    let tokens_per_forward = |seconds: fn(usize) -> f64| {
        let mut pace = Pace::new(CostCurve::new(&[1, 16].map(|rows| (rows, seconds(rows))), 0.0).unwrap());
        let rate =
            |start| adaptively(&model, &[start, 3], 16, Sampling::default(), &mut pace).statistics.tokens_per_forward();
        let texts: Vec<f64> = (0..12).map(rate).collect();
        texts.iter().sum::<f64>() / texts.len() as f64
    };
    let (free, dear) = (tokens_per_forward(|_| 1.0), tokens_per_forward(|rows| (rows * rows) as f64));
    assert!(free > 1.5 && dear < 1.1, "{free} and {dear} tokens per forward");
}

#[test]
fn a_curve_has_its_ends_whatever_time_there_is() {
    let model = model(&config(), 3, 1, InstructionSet::detect());
    let rows = |sizes: &[usize], budget| -> Vec<usize> {
        let costs = forward_cost_within(&model, sizes, 64, budget);
        assert!(costs.iter().all(|(_, seconds)| *seconds > 0.0), "{costs:?}");
        costs.into_iter().map(|(rows, _)| rows).collect()
    };
    let sizes = [4, 1, 16, 2, 0, 96];
    assert_eq!(rows(&sizes, Duration::ZERO), [1, 16], "no time at all");
    let begin = Instant::now();
    assert_eq!(rows(&sizes, Duration::from_secs(20)), [1, 2, 4, 16], "0 and 96 are no forwards of this model");
    assert!(begin.elapsed() < Duration::from_secs(10), "a small model does not use up its time");
    assert_eq!(rows(&[], Duration::from_secs(1)), [0; 0]);
}

#[test]
fn a_pace_can_be_timed_for_any_context() {
    for context in [1, 2, 3, 20, 96, 1000] {
        let model =
            model(&ModelConfig { max_position_embeddings: context, ..config() }, 3, 1, InstructionSet::detect());
        for texts in [1, 4] {
            assert_eq!(Pace::timed(&model, 16, texts).is_some(), context > 1, "{context}, {texts} texts");
        }
    }
}
