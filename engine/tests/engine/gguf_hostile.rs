//! Weight files that are wrong by accident or on purpose: refused with a sentence, never a panic.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cllm_engine::Checkpoint;

use crate::gguf::{byte_level, open, sentence_piece};
use crate::gguf_file::{GgufFile, array, float, floats, integer, integers, text, texts, truth};
use crate::support::{config, folder};

fn file() -> GgufFile {
    GgufFile::llama(byte_level("gpt-2"), 262)
}

fn check_refused(file: &GgufFile, edit: impl FnOnce(&mut GgufFile), parts: &[&str]) {
    let mut file = file.clone();
    edit(&mut file);
    let message = open(&file).unwrap_err();
    assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?} in: {message}");
}

/// Edits the finished bytes of a good file.
fn check_bytes_refused(edit: impl FnOnce(&mut Vec<u8>), parts: &[&str]) {
    let mut bytes = file().bytes();
    edit(&mut bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    fs::write(&path, bytes).unwrap();
    let message = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?} in: {message}");
}

#[test]
fn other_formats_and_versions_are_refused() {
    check_bytes_refused(
        |bytes| bytes[..4].copy_from_slice(b"PK\x03\x04"),
        &["begins with \"PK\\\\x03\\\\x04\"", "GGUF"],
    );
    check_bytes_refused(|bytes| bytes[4..8].copy_from_slice(&3_u32.to_be_bytes()), &["big-endian"]);
    for version in [0_u32, 1, 4] {
        check_bytes_refused(
            |bytes| bytes[4..8].copy_from_slice(&version.to_le_bytes()),
            &[&format!("version {version}"), "2 and 3"],
        );
    }
    check_bytes_refused(Vec::clear, &["ends early", "magic"]);
    check_bytes_refused(
        |bytes| bytes.truncate(6),
        &["ends early: the version at byte 4 needs 4 bytes, but 2 are left"],
    );
    check_bytes_refused(|bytes| bytes.truncate(bytes.len() - 1), &["the file ends at"]);
    check_bytes_refused(|bytes| bytes[8..16].fill(0xFF), &["18446744073709551615 tensors", "at most 65536"]);
    check_bytes_refused(|bytes| bytes[16..24].fill(0xFF), &["metadata values", "at most 65536"]);
    check_bytes_refused(|bytes| bytes[24..32].fill(0xFF), &["a metadata key is 18446744073709551615 bytes long"]);
}

#[test]
fn wrong_metadata_is_refused() {
    let set = |key: &'static str, value: (u32, Vec<u8>)| move |file: &mut GgufFile| file.set(key, value);
    let check = |edit: Box<dyn FnOnce(&mut GgufFile)>, parts: &[&str]| check_refused(&file(), edit, parts);
    check(Box::new(set("x", (13, vec![]))), &["`x` has type 13", "0 to 12"]);
    check(Box::new(set("x", truth(2))), &["`x` holds the truth value 2"]);
    check(Box::new(set("x", array(9, &[vec![0; 12]]))), &["`x` is an array of arrays"]);
    check(Box::new(set("x", (9, [&[0; 4][..], &[0xFF; 8]].concat()))), &["elements of an array", "at most"]);
    check(Box::new(set("x", (8, [&2_u64.to_le_bytes()[..], &[0xC3, 0x28]].concat()))), &["not UTF-8"]);
    check(Box::new(|file| file.values.push(file.values[0].clone())), &["`general.architecture` is there twice"]);
    check(Box::new(|file| drop(file.values.remove(0))), &["no metadata value `general.architecture`"]);
    for (key, value, parts) in [
        ("split.count", integer(3), &["one of 3 parts", "Merge"][..]),
        ("general.alignment", integer(48), &["`general.alignment` is 48", "powers of two"]),
        ("general.architecture", text("mamba"), &["\"mamba\"", "llama, qwen2, qwen3"]),
        ("general.architecture", integer(1), &["is an integer", "expected is a string"]),
        ("llama.block_count", text("one"), &["`llama.block_count` is a string"]),
        ("llama.block_count", integer(0), &["`num_hidden_layers` is 0"]),
        ("llama.attention.head_count", integer(0), &["`num_attention_heads` is 0"]),
        ("llama.attention.head_count", integers(&[2]), &["`llama.attention.head_count` is an array"]),
        ("llama.expert_count", integer(8), &["`llama.expert_count` is 8", "mixture"]),
        ("llama.rope.dimension_count", integer(2), &["`llama.rope.dimension_count` is 2", "4"]),
        ("llama.rope.scaling.type", text("yarn"), &["yarn"]),
        ("tokenizer.ggml.model", text("bert"), &["\"bert\"", "\"gpt2\"", "\"llama\""]),
        ("tokenizer.ggml.pre", text("viking"), &["\"viking\"", "smollm", "llama-bpe", "qwen2"]),
        ("tokenizer.ggml.eos_token_id", integer(262), &["is 262", "only 262 tokens"]),
        ("tokenizer.ggml.eos_token_id", integer(u32::MAX), &["only 262 tokens"]),
        ("tokenizer.ggml.token_type", integers(&[1]), &["1 entries", "262 tokens"]),
        ("tokenizer.ggml.token_type", integers(&[9; 262]), &["type 9", "1 to 6"]),
        ("tokenizer.ggml.merges", texts(["a  b"]), &["merge \"a  b\""]),
        ("tokenizer.ggml.merges", texts(["a nothing"]), &["tokenizer"]),
        ("tokenizer.ggml.tokens", texts(["a"; 262]), &["tokens 0 and 1 have the same text \"a\""]),
        ("tokenizer.ggml.add_eos_token", truth(1), &["`tokenizer.ggml.add_eos_token` is true"]),
        ("tokenizer.chat_template", text("{% for %}"), &["chat template"]),
    ] {
        check(Box::new(set(key, value)), parts);
    }
    let piece = GgufFile::llama(sentence_piece(), 14);
    check_refused(&piece, set("tokenizer.ggml.scores", floats(&[0.0])), &["1 entries", "14 tokens"]);
    check_refused(&piece, set("tokenizer.ggml.scores", floats(&[f32::NAN; 14])), &["a score is NaN"]);
    check_refused(&piece, set("tokenizer.ggml.scores", float(1.0)), &["expected is an array of numbers"]);
}

#[test]
fn wrong_tensors_are_refused() {
    let check = |index: usize, edit: &dyn Fn(&mut crate::gguf_file::RawTensor), parts: &[&str]| {
        check_refused(&file(), |file| edit(&mut file.tensors[index]), parts);
    };
    let norm = "blk.0.attn_norm.weight";
    check(1, &|tensor| tensor.dimensions = vec![], &[norm, "dimensions []"]);
    check(1, &|tensor| tensor.dimensions = vec![8, 0], &[norm, "dimensions [8, 0]"]);
    check(1, &|tensor| tensor.dimensions = vec![1 << 32, 1 << 32], &[norm, "below 2^48"]);
    check(1, &|tensor| tensor.dimensions = vec![1; 5], &["5 dimensions of a tensor", "at most 4"]);
    check(1, &|tensor| tensor.dimensions = vec![1 << 40], &[norm, "takes 4398046511104 bytes", "the file ends at"]);
    check(1, &|tensor| tensor.dimensions = vec![4], &["input_layernorm.weight", "[4]", "[8]"]);
    check(1, &|tensor| tensor.dtype = 20, &[norm, "IQ4_NL", "Q4_K"]);
    check(1, &|tensor| tensor.dtype = 4, &[norm, "type 4, which nobody has defined"]);
    check(1, &|tensor| tensor.dtype = 8, &[norm, "rows of 8 elements", "Q8_0", "blocks of 32"]);
    check(1, &|tensor| tensor.offset += 1, &[norm, "no multiple of the alignment 32"]);
    check(1, &|tensor| tensor.offset = u64::MAX - 31, &[norm, "the file ends at"]);
    check(1, &|tensor| tensor.offset = 0, &["`token_embd.weight` and `blk.0.attn_norm.weight` overlap"]);
    check(1, &|tensor| tensor.name = "output_norm.weight".to_owned(), &["`output_norm.weight` is there twice"]);
    check(1, &|tensor| tensor.name = "x".repeat(300), &["name of a tensor is 300 bytes long"]);
    check(1, &|tensor| tensor.name = "blk.0.attn_qkv.weight".to_owned(), &["`blk.0.attn_qkv.weight` is not part of"]);
    check(0, &|tensor| tensor.name = "other".to_owned(), &["no tensor `token_embd.weight`"]);
    check(1, &|tensor| tensor.data[4..8].copy_from_slice(&f32::NAN.to_le_bytes()), &["NaN at element 1"]);
    check(0, &|tensor| tensor.dimensions[1] = 261, &["`bos_token_id` is 261"]);
    let smaller = |file: &mut GgufFile| {
        file.tensors[0].dimensions[1] = 261;
        file.values.retain(|(key, _)| key != "tokenizer.ggml.bos_token_id");
    };
    check_refused(&file(), smaller, &["token with id 261", "`vocab_size` is 261"]);
}

/// Refused or opened, but never a panic: the files are changed at random for a while.
fn mutate(name: &str, original: &[u8], path: &Path, seed: u64) {
    let seconds = std::env::var("CLLM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(seed);
    let (mut tried, mut refused) = (0_u32, 0_u32);
    // Most of what can be wrong is in the header.
    let header = original.len().min(16_384);
    while Instant::now() < end {
        let bytes = mutated(original, header, &mut random);
        fs::write(path, bytes).unwrap();
        let opened = if name.ends_with("gguf") { path } else { path.parent().unwrap() };
        tried += 1;
        match Checkpoint::open(opened) {
            Err(error) => {
                assert!(error.to_string().len() > 20, "{error}");
                refused += 1;
            }
            Ok(checkpoint) => {
                assert!(checkpoint.tensors().names().all(|name| checkpoint.tensors().get(name).is_some()));
            }
        }
    }
    assert!(tried > 20 && refused > tried / 4, "{name}: {tried} files, {refused} refused");
}

fn mutated(original: &[u8], header: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(3) {
        let anywhere = random.below(8) == 0;
        let at = random.below(if anywhere { bytes.len() } else { header.min(bytes.len()) });
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
            2 => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = [0xFF, 0][random.below(2)]),
            3 => bytes.truncate(at.max(1)),
            4 => {
                let from = random.below(at + 1);
                bytes.copy_within(from..at, from / 2);
            }
            _ => {
                let number = (original.len() as u64).wrapping_add(random.next() % 64).to_le_bytes();
                bytes.iter_mut().skip(at & !7).zip(number).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}

#[test]
fn mutated_files_never_panic() {
    let scratch = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/golden/gguf/model.gguf");
    mutate("golden gguf", &fs::read(golden).unwrap(), &scratch.path().join("a.gguf"), 1);
    mutate("bpe gguf", &file().bytes(), &scratch.path().join("b.gguf"), 2);
    mutate("sentence piece gguf", &GgufFile::llama(sentence_piece(), 14).bytes(), &scratch.path().join("c.gguf"), 3);
    let folder = folder(&config(), 1);
    let weights = folder.path().join("model.safetensors");
    mutate("safetensors", &fs::read(&weights).unwrap(), &weights, 4);
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
