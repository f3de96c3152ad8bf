//! Weights in every storage: the exactness rule holds in each, and narrower ones stay close.

use std::num::NonZeroUsize;

use cllm_engine::{
    Checkpoint, ComputeOptions, DecodeOptions, KvCache, LoadError, Model, ModelConfig, Storage, Strategy as Decoding,
    Workspace, generate,
};
use proptest::prelude::*;

use crate::support::{cases, config, folder, instruction_sets};

/// Every layer has whole blocks of inputs.
fn whole_blocks() -> ModelConfig {
    ModelConfig { hidden_size: 64, intermediate_size: 96, head_dim: 8, ..config() }
}

fn load(checkpoint: &Checkpoint, options: ComputeOptions) -> Model {
    Model::load(checkpoint, options).unwrap()
}

fn decode(model: &Model, prompt: &[u32], strategy: Decoding) -> Vec<u32> {
    let options = DecodeOptions { strategy, max_new_tokens: 50, stop_at_eos: true };
    generate(model, &mut Workspace::new(model), prompt, options).unwrap().tokens
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn jacobi_gives_the_tokens_of_autoregressive_decoding_in_every_storage(
        seed: u64,
        tied: bool,
        prompt in prop::collection::vec(0_u32..270, 1..40),
        block_sizes in prop::collection::vec((1_usize..=40, any::<bool>()), 3),
    ) {
        let config = ModelConfig { tie_word_embeddings: tied, ..whole_blocks() };
        let folder = folder(&config, seed);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        for storage in Storage::ALL {
            for set in instruction_sets() {
                let options = ComputeOptions {
                    threads: 1,
                    instruction_set: Some(set),
                    storage: Some(storage),
                    ..ComputeOptions::default()
                };
                let reference = decode(&load(&checkpoint, options), &prompt, Decoding::Autoregressive);
                let model = load(&checkpoint, ComputeOptions { threads: 2, ..options });
                for &(block_size, lookup) in &block_sizes {
                    let block_size = NonZeroUsize::new(block_size).unwrap();
                    let found = decode(&model, &prompt, Decoding::Jacobi { block_size, lookup });
                    prop_assert_eq!(&found, &reference, "{}, {}, n = {}", storage, set, block_size);
                }
            }
        }
    }
}

#[test]
fn narrower_storages_stay_close_to_f32() {
    let folder = folder(&whole_blocks(), 3);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let tokens: Vec<u32> = (0..60).map(|i| i * i % 270).collect();
    let logits = |storage| {
        let model = load(&checkpoint, ComputeOptions { storage: Some(storage), ..ComputeOptions::default() });
        assert_eq!(model.storages(), [storage]);
        let (mut workspace, mut cache) = (Workspace::new(&model), KvCache::new(&model, tokens.len()));
        let logits = model.forward(&mut workspace, &mut cache, &tokens).unwrap();
        (0..tokens.len()).flat_map(|row| logits.row(row).to_vec()).collect::<Vec<f32>>()
    };
    let reference = logits(Storage::F32);
    let size = reference.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (storage, tolerance) in
        [(Storage::F32, 0.0), (Storage::Bf16, 0.03), (Storage::Q8_0, 0.1), (Storage::Q4_0, 0.8), (Storage::Q4_1, 0.8)]
    {
        let found = logits(storage);
        let difference = found.iter().zip(&reference).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / size;
        assert!(difference <= tolerance, "{storage} is off by {difference}");
        assert!(storage == Storage::F32 || difference > tolerance / 40.0, "{storage} is off by {difference} only");
    }
}

#[test]
fn a_storage_that_does_not_fit_is_refused_with_a_sentence() {
    let folder = folder(&config(), 3);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let options = ComputeOptions { storage: Some(Storage::Q8_0), ..ComputeOptions::default() };
    let refused = Model::load(&checkpoint, options).unwrap_err();
    assert!(matches!(refused, LoadError::Storage { inputs: 20, block: 32, .. }), "{refused}");
    let message = refused.to_string();
    assert!(message.contains("`model.embed_tokens.weight` has rows of 20 weights"), "{message}");
    assert!(message.contains("choose bf16 or f32"), "{message}");
}
