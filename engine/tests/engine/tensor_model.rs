//! Inference with candle tensors on the CPU, where only the device differs from CUDA: caches, several sequences, decoding.

use cllm_engine::tensor_model::{TensorCache, TensorDtype, TensorLogits, TensorModel, TensorModelError, TensorSegment};
use cllm_engine::{Checkpoint, Device, ForwardError, ModelConfig};

use crate::support::{config, families, folder};

fn model(config: &ModelConfig, seed: u64) -> TensorModel {
    TensorModel::load(&Checkpoint::open(folder(config, seed).path()).unwrap(), Device::Cpu, None).unwrap()
}

fn models() -> impl Iterator<Item = TensorModel> {
    let tied = ModelConfig { tie_word_embeddings: true, num_key_value_heads: 1, ..config() };
    [config(), tied].into_iter().chain(families()).enumerate().map(|(seed, config)| model(&config, seed as u64))
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (i * i + 3 * i) % 270).collect()
}

fn forward(model: &TensorModel, cache: &mut TensorCache, tokens: &[u32], predict: usize) -> TensorLogits {
    model.forward(&mut [TensorSegment { cache, tokens, predict }]).unwrap()
}

fn check_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0_f32, |a, b| a.max(b.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-4 * largest, "{what}: {found} instead of {expected}");
    }
}

/// Logits of all rows, computed at once.
fn at_once(model: &TensorModel, tokens: &[u32]) -> Vec<f32> {
    let mut cache = TensorCache::new(model, tokens.len()).unwrap();
    forward(model, &mut cache, tokens, usize::MAX).into_values()
}

#[test]
fn truncation_forgets_what_came_after() {
    let (text, other) = (tokens(90), [9_u32; 40]);
    for model in models() {
        let (expected, width) = (at_once(&model, &text), model.config().vocab_size);
        let mut cache = TensorCache::new(&model, 90).unwrap();
        for (kept, wrong, right) in [(0, 40, 30), (30, 5, 1), (31, 1, 9), (12, 17, 50), (62, 28, 28)] {
            cache.truncate(kept);
            assert_eq!(cache.len(), kept);
            forward(&model, &mut cache, &other[..wrong], 1);
            cache.truncate(kept);
            let logits = forward(&model, &mut cache, &text[kept..kept + right], right);
            check_near(logits.of(0), &expected[kept * width..(kept + right) * width], &format!("{right} after {kept}"));
        }
        cache.truncate(1000);
        assert_eq!((cache.len(), cache.capacity(), cache.is_empty()), (90, 90, false));
    }
}

#[test]
fn sequences_in_one_forward_do_not_see_each_other() {
    let texts: Vec<Vec<u32>> = [50, 7, 31].iter().map(|&count| tokens(count).into_iter().rev().collect()).collect();
    for model in models() {
        let width = model.config().vocab_size;
        let expected: Vec<Vec<f32>> = texts.iter().map(|text| at_once(&model, text)).collect();
        let mut caches: Vec<_> = texts.iter().map(|text| TensorCache::new(&model, text.len()).unwrap()).collect();
        // sequences at different places with different numbers of rows and of predictions, some of them with none
        for (lengths, predict) in [([20, 1, 30], [0, 1, 0]), ([1, 5, 1], [1, 2, 1]), ([29, 1, 0], [0, 0, 0])] {
            let starts: Vec<usize> = caches.iter().map(TensorCache::len).collect();
            let present: Vec<usize> = (0..3).filter(|&index| lengths[index] > 0).collect();
            let mut segments: Vec<_> = caches
                .iter_mut()
                .enumerate()
                .filter(|(index, _)| lengths[*index] > 0)
                .map(|(index, cache)| TensorSegment {
                    tokens: &texts[index][starts[index]..starts[index] + lengths[index]],
                    predict: predict[index],
                    cache,
                })
                .collect();
            let logits = model.forward(&mut segments).unwrap();
            for (segment, &index) in present.iter().enumerate() {
                let end = starts[index] + lengths[index];
                let rows = end - predict[index]..end;
                let what = format!("sequence {index} up to {end}");
                check_near(logits.of(segment), &expected[index][rows.start * width..rows.end * width], &what);
                if predict[index] > 0 {
                    assert_eq!(logits.row(segment, 0), &logits.of(segment)[..width]);
                }
            }
        }
        assert!(caches.iter().zip(&texts).all(|(cache, text)| cache.len() == text.len()));
    }
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32
}

/// Jacobi decoding in its simplest form: the known token, then guesses that slide. `rows` 1 is autoregressive. Gives tokens and forwards.
fn decode(model: &TensorModel, prompt: &[u32], count: usize, rows: usize) -> (Vec<u32>, usize) {
    let width = model.config().vocab_size;
    let mut cache = TensorCache::new(model, prompt.len() + count + rows).unwrap();
    let mut known = prompt.to_vec();
    known.push(argmax(forward(model, &mut cache, prompt, 1).row(0, 0)));
    let (mut guesses, mut forwards) = (vec![known[0]; rows - 1], 0);
    while known.len() < prompt.len() + count {
        let inputs: Vec<u32> = known.last().copied().into_iter().chain(guesses).collect();
        let logits = forward(model, &mut cache, &inputs, rows);
        let predictions: Vec<u32> = logits.of(0).chunks(width).map(argmax).collect();
        let accepted = 1 + (1..rows).take_while(|&row| inputs[row] == predictions[row - 1]).count();
        known.extend(&predictions[..accepted]);
        cache.truncate(known.len() - 1);
        guesses = predictions[accepted..].to_vec();
        guesses.resize(rows - 1, predictions[rows - 1]);
        forwards += 1;
    }
    known.truncate(prompt.len() + count);
    (known.split_off(prompt.len()), forwards)
}

#[test]
fn jacobi_decoding_gives_the_tokens_of_autoregressive_decoding() {
    let mut saved = 0;
    for model in models() {
        let prompt = tokens(30);
        let (expected, autoregressive) = decode(&model, &prompt, 40, 1);
        assert_eq!(autoregressive, 39);
        for rows in [2, 4, 8, 16] {
            let (found, forwards) = decode(&model, &prompt, 40, rows);
            assert_eq!(found, expected, "{rows} rows");
            saved += autoregressive - forwards;
        }
    }
    assert!(saved > 0, "no guess was ever right");
}

#[test]
fn what_cannot_be_computed_is_refused_and_changes_nothing() {
    let model = model(&config(), 1);
    let mut cache = TensorCache::new(&model, 10).unwrap();
    forward(&model, &mut cache, &[1, 2, 3], 0);
    let mut refused = |tokens: &[u32]| {
        let segment = TensorSegment { cache: &mut cache, tokens, predict: 1 };
        match model.forward(&mut [segment]) {
            Err(TensorModelError::Forward(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&[]), ForwardError::Empty);
    assert_eq!(refused(&[1, 270]), ForwardError::TokenOutsideVocabulary { token: 270, vocab_size: 270 });
    assert_eq!(refused(&[1; 8]), ForwardError::CacheFull { rows: 8, len: 3, capacity: 10 });
    assert!(matches!(model.forward(&mut []), Err(TensorModelError::Forward(ForwardError::Empty))));
    assert_eq!(cache.len(), 3);
    assert_eq!(TensorCache::new(&model, 1000).unwrap().capacity(), 96, "no more than the context");

    let folder = folder(&config(), 1);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let load = |device, dtype| TensorModel::load(&checkpoint, device, dtype).unwrap_err().to_string();
    assert!(load(Device::Cpu, Some(TensorDtype::Bf16)).contains("does not compute in bf16"));
    assert!(load(Device::Cuda(4096), None).contains("cuda:4096"));
}

#[test]
fn numbers_are_those_that_the_device_computes_in() {
    let folder = folder(&config(), 1);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let model = TensorModel::load(&checkpoint, Device::Cpu, None).unwrap();
    assert_eq!((model.dtype(), model.device()), (TensorDtype::F32, Device::Cpu));
    assert_eq!(model.eos_token_ids(), [0]);
    let half = TensorModel::load(&checkpoint, Device::Cpu, Some(TensorDtype::F16)).unwrap();
    let difference =
        at_once(&half, &tokens(9)).into_iter().zip(at_once(&model, &tokens(9))).map(|(a, b)| (a - b).abs());
    assert!(difference.fold(0.0, f32::max) > 0.0, "f16 rounds");
}
