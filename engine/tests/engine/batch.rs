//! Texts in a batch: what each becomes depends on nothing but itself, whatever the memory, the neighbours and their turns.

use std::num::NonZeroUsize;

use cllm_engine::batch::{Batch, BatchOptions, Text};
use cllm_engine::decode::adaptive::{CostCurve, Pace};
use cllm_engine::{
    Checkpoint, ComputeOptions, DecodeError, DecodeOptions, FinishReason, ForwardError, Generation, InstructionSet,
    JacobiTrajectory, KvCache, KvPool, Model, ModelConfig, Sampling, Storage, Strategy as Decoding, Workspace,
    generate_sampled, generate_with_trajectories,
};
use proptest::prelude::*;

use crate::exactness::configs;
use crate::sampling::samplings;
use crate::support::{cases, config, folder, instruction_sets, model};

/// Positions of a page of the KV memory.
pub(crate) const PAGE: usize = 64;

/// What is asked for, and when.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) prompt: Vec<u32>,
    pub(crate) decode: DecodeOptions,
    pub(crate) sampling: Sampling,
    /// Steps of the batch before it comes.
    pub(crate) after: usize,
    /// Steps after which it is given up.
    pub(crate) patience: usize,
}

fn requests(vocabulary: usize, longest: usize) -> impl Strategy<Value = Vec<Request>> {
    // beginnings of one text, so that prompts share them, and an end of their own
    let text: Vec<u32> = (0..longest as u32).map(|index| (index * 7 + index / 5) % vocabulary as u32).collect();
    let own = prop::collection::vec(0..vocabulary as u32, 0..4);
    let prompt = (0..longest - 6, own).prop_map(move |(shared, own)| {
        let prompt = [&text[..shared], &own].concat();
        if prompt.is_empty() { vec![0] } else { prompt }
    });
    let strategy = prop_oneof![
        Just(Decoding::Autoregressive),
        (1_usize..24, any::<bool>()).prop_map(|(block_size, lookup)| {
            Decoding::Jacobi { block_size: NonZeroUsize::new(block_size).unwrap(), lookup }
        }),
    ];
    let sampling = prop_oneof![Just(Sampling::default()), samplings(vocabulary)];
    let patience = prop_oneof![3 => Just(usize::MAX), 1 => 0_usize..20];
    let request = (prompt, strategy, 1_usize..70, sampling, 0_usize..12, patience).prop_map(
        |(prompt, strategy, max_new_tokens, sampling, after, patience)| Request {
            prompt,
            decode: DecodeOptions { strategy, max_new_tokens, stop_at_eos: true },
            sampling,
            after,
            patience,
        },
    );
    prop::collection::vec(request, 1..7)
}

/// A model, what is asked of it, and the batch that answers.
#[derive(Debug)]
struct Setting {
    config: ModelConfig,
    requests: Vec<Request>,
    seed: u64,
    threads: usize,
    pages: usize,
    adaptive: bool,
    prefix_cache: bool,
}

impl Setting {
    fn batch(&self, model: &Model) -> Batch {
        let pace = || Pace::new(CostCurve::new(&[1, 16].map(|rows| (rows, 10.0 + rows as f64)), 0.0).unwrap());
        let options = BatchOptions { pace: self.adaptive.then(pace), prefix_cache: self.prefix_cache };
        Batch::new(KvPool::new(model, self.pages * PAGE), options)
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let asked = configs().prop_flat_map(|config| {
        let vocabulary = config.vocab_size;
        (Just(config), requests(vocabulary, 90))
    });
    (asked, any::<u64>(), 1_usize..=2, 4_usize..10, any::<bool>(), any::<bool>()).prop_map(
        |((config, requests), seed, threads, pages, adaptive, prefix_cache)| Setting {
            config,
            requests,
            seed,
            threads,
            pages,
            adaptive,
            prefix_cache,
        },
    )
}

/// The tokens of each request, complete where it was not given up.
pub(crate) fn serve(model: &Model, batch: &mut Batch, requests: &[Request]) -> Vec<(Vec<u32>, Option<FinishReason>)> {
    let mut workspace = Workspace::new(model);
    let mut waiting: Vec<usize> = (0..requests.len()).collect();
    let mut running: Vec<(usize, Text, usize)> = Vec::new();
    let mut results = vec![(Vec::new(), None); requests.len()];
    for step in 0_usize.. {
        assert!(step < 20_000, "a text never ends");
        waiting.retain(|&index| {
            let Request { prompt, decode, sampling, after, .. } = &requests[index];
            if step >= *after {
                running.push((index, batch.start(model, prompt, *decode, sampling.clone()).unwrap(), 0));
            }
            step < *after
        });
        let mut texts: Vec<&mut Text> = running.iter_mut().map(|(_, text, _)| text).collect();
        batch.step(model, &mut workspace, &mut texts).unwrap();
        assert!(batch.pool().used_pages() <= batch.pool().pages());
        running.retain_mut(|(index, text, age)| {
            *age += 1;
            let ends = text.finish_reason().is_some() || *age > requests[*index].patience;
            if ends {
                batch.finish(text);
                results[*index] = (text.tokens().to_vec(), text.finish_reason());
            }
            !ends
        });
        if waiting.is_empty() && running.is_empty() {
            return results;
        }
    }
    results
}

pub(crate) fn alone(model: &Model, request: &Request) -> (Vec<u32>, Option<FinishReason>) {
    let options = DecodeOptions { strategy: Decoding::Autoregressive, ..request.decode };
    let sampling = request.sampling.clone();
    let generation = generate_sampled(model, &mut Workspace::new(model), &request.prompt, options, sampling).unwrap();
    (generation.tokens, Some(generation.finish_reason))
}

/// What becomes of requests whose trajectories are recorded; every third is an ordinary text among them, of which nothing is given.
fn record(model: &Model, batch: &mut Batch, requests: &[Request]) -> Vec<Option<(Generation, Vec<JacobiTrajectory>)>> {
    let mut workspace = Workspace::new(model);
    let (mut running, mut results) = (Vec::new(), vec![None; requests.len()]);
    let last = requests.iter().map(|request| request.after).max().unwrap_or(0);
    for step in 0_usize.. {
        assert!(step < 20_000, "a text never ends");
        for (index, Request { prompt, decode, sampling, .. }) in
            requests.iter().enumerate().filter(|(_, request)| request.after == step)
        {
            let text = if is_recorded(index) {
                batch.start_in_blocks(model, prompt, *decode, first_block_len(index))
            } else {
                batch.start(model, prompt, *decode, sampling.clone())
            };
            running.push((index, text.unwrap()));
        }
        let mut texts: Vec<&mut Text> = running.iter_mut().map(|(_, text)| text).collect();
        batch.step(model, &mut workspace, &mut texts).unwrap();
        for (index, text) in running.extract_if(.., |(_, text)| text.finish_reason().is_some()) {
            batch.finish(&text);
            results[index] = text.into_trajectories().filter(|_| is_recorded(index));
        }
        if step >= last && running.is_empty() {
            return results;
        }
    }
    results
}

fn is_recorded(index: usize) -> bool {
    index % 3 != 1
}

fn first_block_len(index: usize) -> NonZeroUsize {
    NonZeroUsize::new(1 + 5 * index).unwrap()
}

/// Every layer has whole blocks of inputs, as quantised storages need.
fn whole_blocks(config: ModelConfig) -> ModelConfig {
    let whole = |size: usize| size.next_multiple_of(32);
    ModelConfig {
        hidden_size: whole(config.hidden_size),
        intermediate_size: whole(config.intermediate_size),
        head_dim: whole(config.head_dim),
        ..config
    }
}

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn texts_do_not_depend_on_their_company(
        setting in settings(),
        storage in prop::option::of(prop::sample::select(Storage::ALL.to_vec())),
    ) {
        let drawn = setting.config.clone();
        let config = if storage.is_some() { whole_blocks(drawn) } else { drawn };
        let folder = folder(&config, setting.seed);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        for set in instruction_sets() {
            let (threads, instruction_set) = (setting.threads, Some(set));
            let options = ComputeOptions { threads, instruction_set, storage, ..ComputeOptions::default() };
            let model = Model::load(&checkpoint, options).unwrap();
            let mut batch = setting.batch(&model);
            for turn in ["first", "again"] {
                let results = serve(&model, &mut batch, &setting.requests);
                for (request, (tokens, reason)) in setting.requests.iter().zip(results) {
                    let (expected, expected_reason) = alone(&model, request);
                    if reason.is_some() {
                        prop_assert_eq!(&tokens, &expected, "{} {} {:?}", turn, set, request);
                        prop_assert_eq!(reason, expected_reason);
                    } else {
                        prop_assert_eq!(&tokens, &expected[..tokens.len()], "{} {} {:?}", turn, set, request);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn trajectories_do_not_depend_on_their_company(setting in settings()) {
        for set in instruction_sets() {
            let model = model(&setting.config, setting.seed, setting.threads, set);
            let mut batch = setting.batch(&model);
            for turn in ["first", "again"] {
                let results = record(&model, &mut batch, &setting.requests);
                for (index, (request, found)) in setting.requests.iter().zip(results).enumerate() {
                    let Request { prompt, decode, .. } = request;
                    prop_assert_eq!(found.is_some(), is_recorded(index));
                    let Some((generation, trajectories)) = found else { continue };
                    let first = first_block_len(index);
                    let (alone, expected) =
                        generate_with_trajectories(&model, &mut Workspace::new(&model), prompt, *decode, first).unwrap();
                    prop_assert_eq!(&trajectories, &expected, "{} {} {:?}", turn, set, request);
                    prop_assert_eq!(&generation.tokens, &alone.tokens);
                    prop_assert_eq!(generation.finish_reason, alone.finish_reason);
                    let forwards = [&generation, &alone].map(|of| of.statistics.decode_forwards);
                    prop_assert_eq!(forwards[0], forwards[1], "what is computed again is no forward of a block");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn given_tokens_are_reached_through_what_the_model_guesses(
        seed in 0_u64..50,
        prompt in prop::collection::vec(0_u32..12, 1..20),
        answer in prop::collection::vec(0_u32..12, 1..50),
        block_size in 1_usize..20,
        first_block in 1_usize..20,
    ) {
        let config = ModelConfig { vocab_size: 12, ..config() };
        let model = model(&config, seed, 1, InstructionSet::detect());
        let strategy = Decoding::Jacobi { block_size: NonZeroUsize::new(block_size).unwrap(), lookup: false };
        let first = NonZeroUsize::new(first_block).unwrap();
        let options = DecodeOptions { strategy, max_new_tokens: 40, stop_at_eos: true };
        let (own, blocks) =
            generate_with_trajectories(&model, &mut Workspace::new(&model), &prompt, options, first).unwrap();
        let [own_again, given] = lead(&model, &prompt, [&own.tokens, &answer], strategy, first);
        prop_assert_eq!(&own_again.0.tokens, &own.tokens);
        prop_assert_eq!(own_again.0.statistics.decode_forwards, own.statistics.decode_forwards);
        prop_assert_eq!(own_again.1, blocks, "what the model says itself");
        prop_assert_eq!(&given.0.tokens, &answer);
        let mut covered = 0;
        for JacobiTrajectory { position, states } in &given.1 {
            prop_assert_eq!(*position, covered);
            let (text, rest) = ([&prompt[..], &answer[..covered]].concat(), &answer[covered..]);
            let length = states[0].len();
            prop_assert_eq!(&states[0], &vec![*text.last().unwrap(); length], "as serving begins a block");
            for pair in states.windows(2) {
                prop_assert_ne!(&pair[0], &pair[1]);
                prop_assert_eq!(&next_state(&model, &text, rest, &pair[0]), &pair[1]);
            }
            prop_assert_eq!(states.last().unwrap(), &rest[..length]);
            covered += length;
        }
        prop_assert_eq!(covered, answer.len());
    }
}

/// Texts that are led to given answers to a prompt, together.
fn lead(
    model: &Model,
    prompt: &[u32],
    answers: [&[u32]; 2],
    strategy: Decoding,
    first: NonZeroUsize,
) -> [(Generation, Vec<JacobiTrajectory>); 2] {
    let (mut batch, mut workspace) = (batch(model, 20), Workspace::new(model));
    let mut texts = answers.map(|answer| batch.start_towards(model, prompt, answer, strategy, first).unwrap());
    while texts.iter().any(|text| text.finish_reason().is_none()) {
        let mut running: Vec<&mut Text> = texts.iter_mut().filter(|text| text.finish_reason().is_none()).collect();
        batch.step(model, &mut workspace, &mut running).unwrap();
    }
    texts.map(|text| text.into_trajectories().unwrap())
}

/// The state after a state on the way to given tokens, without a cache, by definition: after right tokens the given one, after others what
/// the model predicts.
fn next_state(model: &Model, text: &[u32], given: &[u32], state: &[u32]) -> Vec<u32> {
    let tokens = [text, &state[..state.len() - 1]].concat();
    let (mut workspace, mut cache) = (Workspace::new(model), KvCache::new(model, tokens.len()));
    let logits = model.forward(&mut workspace, &mut cache, &tokens).unwrap();
    let place = |place: usize| {
        if state[..place] == given[..place] { given[place] } else { logits.argmax(text.len() - 1 + place) }
    };
    (0..state.len()).map(place).collect()
}

#[test]
fn texts_in_blocks_share_forwards() {
    let model = model(&wide(), 5, 1, InstructionSet::detect());
    let block_size = NonZeroUsize::new(8).unwrap();
    let decode = DecodeOptions {
        strategy: Decoding::Jacobi { block_size, lookup: false },
        max_new_tokens: 32,
        stop_at_eos: false,
    };
    let requests: Vec<_> = (0..6).map(|start| Request { decode, ..greedy(vec![start, 7, start], 1) }).collect();
    let mut batch = batch(&model, 40);
    let results = record(&model, &mut batch, &requests);
    let alone: usize = results.iter().flatten().map(|(generation, _)| generation.statistics.decode_forwards).sum();
    let together = batch.counters().forwards;
    // each gives every text a token at least, the first one too
    assert!(together <= 32 && (together as usize) < alone, "{together} forwards instead of {alone}");
}

pub(crate) fn greedy(prompt: Vec<u32>, max_new_tokens: usize) -> Request {
    let decode = DecodeOptions { strategy: Decoding::Autoregressive, max_new_tokens, stop_at_eos: false };
    Request { prompt, decode, sampling: Sampling::default(), after: 0, patience: usize::MAX }
}

pub(crate) fn wide() -> ModelConfig {
    ModelConfig { max_position_embeddings: 400, ..config() }
}

fn batch(model: &Model, pages: usize) -> Batch {
    Batch::new(KvPool::new(model, pages * PAGE), BatchOptions { pace: None, prefix_cache: true })
}

#[test]
fn a_prompt_that_was_seen_is_not_computed_again() {
    let model = model(&wide(), 5, 1, InstructionSet::detect());
    let mut batch = batch(&model, 20);
    let prompt: Vec<u32> = (0..150).collect();
    serve(&model, &mut batch, &[greedy(prompt.clone(), 3)]);
    assert_eq!((batch.counters().asked_tokens, batch.counters().remembered_tokens), (150, 0));
    // the same, a longer one, one that leaves in the middle of a page, one that never agrees
    let longer = [&prompt[..], &[7, 7]].concat();
    let other = [&prompt[..100], &[269, 3]].concat();
    for (prompt, remembered) in [(prompt.clone(), 149), (longer, 150), (other, 100), (vec![9, 1, 2], 0)] {
        let before = batch.counters().remembered_tokens;
        let request = greedy(prompt, 3);
        assert_eq!(serve(&model, &mut batch, std::slice::from_ref(&request))[0], alone(&model, &request));
        assert_eq!(batch.counters().remembered_tokens - before, remembered, "{request:?}");
    }
}

#[test]
fn texts_at_the_same_time_share_a_beginning_once_one_of_them_has_computed_it() {
    let model = model(&wide(), 5, 1, InstructionSet::detect());
    let mut batch = batch(&model, 20);
    let prompt: Vec<u32> = (0..200).collect();
    let late = Request { after: 6, ..greedy(prompt.clone(), 2) };
    serve(&model, &mut batch, &[greedy(prompt, 60), late]);
    assert_eq!(batch.counters().remembered_tokens, 192, "three whole pages");
}

#[test]
fn memory_is_taken_from_what_is_remembered_then_from_the_youngest() {
    let model = model(&wide(), 5, 1, InstructionSet::detect());
    let long = |start: u32| greedy((start..start + 100).collect(), 140);
    let mut roomy = batch(&model, 40);
    let mut tight = batch(&model, 9);
    for _ in 0..2 {
        let requests = [long(0), long(30), long(60)];
        let found = serve(&model, &mut tight, &requests);
        assert_eq!(found, serve(&model, &mut roomy, &requests));
        assert!(found.iter().all(|(tokens, _)| tokens.len() == 140));
    }
    assert_eq!(roomy.counters().preemptions, 0);
    assert!(tight.counters().preemptions > 0, "{:?}", tight.counters());
    assert!(tight.counters().forwards > roomy.counters().forwards, "what was given back is computed again");
}

#[test]
fn all_pages_are_free_or_remembered_once_everything_ended() {
    let model = model(&wide(), 5, 1, InstructionSet::detect());
    let mut batch = batch(&model, 9);
    let given_up = Request { patience: 2, ..greedy((0..200).collect(), 100) };
    serve(&model, &mut batch, &[greedy(vec![1, 2, 3], 50), given_up, greedy(vec![4; 90], 5)]);
    assert!(batch.pool().used_pages() > 0);
    assert_eq!(batch.pool().used_pages(), batch.remembered_pages());
}

#[test]
fn a_text_that_can_never_fit_is_refused_at_once() {
    let model = model(&wide(), 5, 1, InstructionSet::detect());
    let mut batch = batch(&model, 3);
    let options =
        |max_new_tokens| DecodeOptions { strategy: Decoding::Autoregressive, max_new_tokens, stop_at_eos: false };
    let refused = batch.start(&model, &[1; 100], options(200), Sampling::default()).unwrap_err();
    assert!(matches!(refused, DecodeError::Forward(ForwardError::KvMemory(_))), "{refused}");
    assert!(batch.start(&model, &[1; 100], options(20), Sampling::default()).is_ok());
}
