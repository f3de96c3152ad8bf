//! The forward in candle tensors, on the processor, where only the device differs from a GPU, or on the device of `CLLM_TEST_DEVICE`:
//! caches, several sequences, decoding, batches.

use std::num::NonZeroUsize;

use cllm_engine::batch::{Batch, BatchOptions};
use cllm_engine::{
    Checkpoint, ComputeOptions, DecodeOptions, Device, ForwardError, KvCache, KvPool, LoadError, Model, ModelConfig,
    Segment, Strategy, TensorDtype, TensorOptions, Workspace, generate,
};

use crate::batch::{PAGE, Request, alone, greedy, serve, wide};
use crate::support::{config, families, folder, tensors};

fn model(config: &ModelConfig, seed: u64) -> Model {
    let checkpoint = Checkpoint::open(folder(config, seed).path()).unwrap();
    Model::load(&checkpoint, tensors(TensorDtype::F32)).unwrap()
}

fn models() -> impl Iterator<Item = Model> {
    let tied = ModelConfig { tie_word_embeddings: true, num_key_value_heads: 1, ..config() };
    [config(), tied].into_iter().chain(families()).enumerate().map(|(seed, config)| model(&config, seed as u64))
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (i * i + 3 * i) % 270).collect()
}

/// Logits of the last rows of one sequence.
fn forward(model: &Model, cache: &mut KvCache, tokens: &[u32], predict: usize) -> Vec<f32> {
    let mut workspace = Workspace::new(model);
    let logits = model.forward_batch(&mut workspace, &mut [Segment { cache, tokens, predict }]).unwrap().of(0);
    (0..logits.rows()).flat_map(|row| logits.row(row)).copied().collect()
}

fn check_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0_f32, |a, b| a.max(b.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-4 * largest, "{what}: {found} instead of {expected}");
    }
}

/// Logits of all rows, computed at once.
fn at_once(model: &Model, tokens: &[u32]) -> Vec<f32> {
    forward(model, &mut KvCache::new(model, tokens.len()), tokens, usize::MAX)
}

#[test]
fn truncation_forgets_what_came_after() {
    let (text, other) = (tokens(90), [9_u32; 40]);
    for model in models() {
        let (expected, width) = (at_once(&model, &text), model.config().vocab_size);
        let mut cache = KvCache::new(&model, 90);
        for (kept, wrong, right) in [(0, 40, 30), (30, 5, 1), (31, 1, 9), (12, 17, 50), (62, 28, 28)] {
            cache.truncate(kept);
            assert_eq!(cache.len(), kept);
            forward(&model, &mut cache, &other[..wrong], 1);
            cache.truncate(kept);
            let logits = forward(&model, &mut cache, &text[kept..kept + right], right);
            check_near(&logits, &expected[kept * width..(kept + right) * width], &format!("{right} after {kept}"));
        }
    }
}

#[test]
fn a_clone_goes_its_own_way() {
    for model in models() {
        let (text, other) = (tokens(90), [&tokens(70)[..], &[5; 20]].concat());
        let mut cache = KvCache::new(&model, 90);
        forward(&model, &mut cache, &text[..70], 0);
        let mut clone = cache.clone();
        let width = model.config().vocab_size;
        for (cache, text) in [(&mut cache, &text), (&mut clone, &other)] {
            let logits = forward(&model, cache, &text[70..], usize::MAX);
            check_near(&logits, &at_once(&model, text)[70 * width..], "from 70 on");
        }
    }
}

#[test]
fn sequences_in_one_forward_do_not_see_each_other() {
    let texts: Vec<Vec<u32>> = [50, 7, 31].iter().map(|&count| tokens(count).into_iter().rev().collect()).collect();
    for model in models() {
        let (mut workspace, width) = (Workspace::new(&model), model.config().vocab_size);
        let expected: Vec<Vec<f32>> = texts.iter().map(|text| at_once(&model, text)).collect();
        let mut caches: Vec<_> = texts.iter().map(|text| KvCache::new(&model, text.len())).collect();
        // sequences at different places with different numbers of rows and of predictions, some of them with none
        for (lengths, predict) in [([20, 1, 30], [0, 1, 0]), ([1, 5, 1], [1, 2, 1]), ([29, 1, 0], [0, 0, 0])] {
            let starts: Vec<usize> = caches.iter().map(KvCache::len).collect();
            let present: Vec<usize> = (0..3).filter(|&index| lengths[index] > 0).collect();
            let mut segments: Vec<_> = caches
                .iter_mut()
                .enumerate()
                .filter(|(index, _)| lengths[*index] > 0)
                .map(|(index, cache)| Segment {
                    tokens: &texts[index][starts[index]..starts[index] + lengths[index]],
                    predict: predict[index],
                    cache,
                })
                .collect();
            let logits = model.forward_batch(&mut workspace, &mut segments).unwrap();
            for (segment, &index) in present.iter().enumerate() {
                let end = starts[index] + lengths[index];
                assert_eq!(logits.of(segment).rows(), predict[index]);
                for row in 0..predict[index] {
                    let position = end - predict[index] + row;
                    let what = format!("sequence {index} at {position}");
                    let expected = &expected[index][position * width..(position + 1) * width];
                    check_near(logits.of(segment).row(row), expected, &what);
                }
            }
        }
        assert!(caches.iter().zip(&texts).all(|(cache, text)| cache.len() == text.len()));
    }
}

fn jacobi(block_size: usize) -> Strategy {
    Strategy::Jacobi { block_size: NonZeroUsize::new(block_size).unwrap(), lookup: true }
}

#[test]
fn jacobi_decoding_gives_the_tokens_of_autoregressive_decoding() {
    let mut saved = 0;
    for model in models() {
        let mut workspace = Workspace::new(&model);
        let mut decode = |strategy| {
            let options = DecodeOptions { strategy, max_new_tokens: 40, stop_at_eos: false };
            generate(&model, &mut workspace, &tokens(30), options).unwrap()
        };
        let expected = decode(Strategy::Autoregressive);
        for rows in [2, 4, 8, 16] {
            let found = decode(jacobi(rows));
            assert_eq!(found.tokens, expected.tokens, "{rows} rows");
            saved += expected.statistics.decode_forwards - found.statistics.decode_forwards;
        }
    }
    assert!(saved > 0, "no guess was ever right");
}

#[test]
fn texts_in_a_batch_share_pages_and_give_them_back_and_stay_the_same() {
    let model = model(&wide(), 5);
    let mut batch = Batch::new(KvPool::new(&model, 9 * PAGE), BatchOptions { pace: None, prefix_cache: true });
    let text = |start: u32, strategy| {
        let request = greedy((start..start + 100).collect(), 140);
        Request { decode: DecodeOptions { strategy, ..request.decode }, ..request }
    };
    let late = Request { after: 20, ..text(0, jacobi(4)) };
    let requests = [text(0, jacobi(8)), text(30, Strategy::Autoregressive), text(60, jacobi(3)), late];
    for turn in 0..2 {
        for (request, found) in requests.iter().zip(serve(&model, &mut batch, &requests)) {
            assert_eq!(found, alone(&model, request), "turn {turn}, {request:?}");
        }
    }
    let counters = batch.counters();
    assert!(counters.preemptions > 0 && counters.remembered_tokens > 0, "{counters:?}");
}

#[test]
fn what_cannot_be_computed_is_refused_and_changes_nothing() {
    let model = model(&config(), 1);
    let (mut workspace, mut cache) = (Workspace::new(&model), KvCache::new(&model, 10));
    forward(&model, &mut cache, &[1, 2, 3], 0);
    let mut refused = |tokens: &[u32]| model.forward(&mut workspace, &mut cache, tokens).unwrap_err();
    assert_eq!(refused(&[]), ForwardError::Empty);
    assert_eq!(refused(&[1, 270]), ForwardError::TokenOutsideVocabulary { token: 270, vocab_size: 270 });
    assert_eq!(refused(&[1; 8]), ForwardError::CacheFull { rows: 8, len: 3, capacity: 10 });
    assert_eq!(cache.len(), 3);
    assert_eq!(model.forward_batch(&mut workspace, &mut []).unwrap_err(), ForwardError::Empty);
}

#[test]
fn what_no_device_can_compute_is_refused() {
    let folder = folder(&config(), 1);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let load = |device, dtype| {
        let options = ComputeOptions { tensors: Some(TensorOptions { device, dtype }), ..ComputeOptions::default() };
        Model::load(&checkpoint, options).unwrap_err()
    };
    assert!(matches!(load(Device::Cpu, Some(TensorDtype::Bf16)), LoadError::TensorDtype(TensorDtype::Bf16)));
    // no machine has so many
    assert!(load(Device::Cuda(4096), None).to_string().contains("cuda:4096"));
    assert!(Model::load(&checkpoint, ComputeOptions::on(Device::Cuda(4096))).is_err());
    assert_eq!(ComputeOptions::on(Device::Cpu), ComputeOptions::default());
}

#[test]
fn a_model_of_tensors_says_what_it_computes_on_and_in() {
    let folder = folder(&config(), 1);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let [whole, half] =
        [TensorDtype::F32, TensorDtype::F16].map(|dtype| Model::load(&checkpoint, tensors(dtype)).unwrap());
    assert_eq!([&whole, &half].map(|model| model.hardware().storage), ["f32", "f16"]);
    assert_eq!(whole.weight_bytes(), 4 * checkpoint.parameters());
    assert_eq!(half.weight_bytes() * 2, whole.weight_bytes());
    assert_eq!(KvPool::page_bytes_of(&half) * 2, KvPool::page_bytes_of(&whole));
    assert!(whole.storages().is_empty() && whole.free_memory().is_some());
    let difference = at_once(&half, &tokens(9)).into_iter().zip(at_once(&whole, &tokens(9)));
    assert!(difference.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) > 0.0, "f16 rounds");
}
