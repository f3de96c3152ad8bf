//! Opening folders, good and bad.

use std::fs;
use std::path::Path;

use cllm_engine::Checkpoint;
use cllm_engine::checkpoint::{Dtype, digest};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::support::{config, folder};

type Tensor = (String, Vec<usize>, safetensors::Dtype, Vec<u8>);

fn read_tensors(path: &Path) -> Vec<Tensor> {
    let bytes = fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec(), view.dtype(), view.data().to_vec()))
        .collect()
}

fn write_tensors<'a>(path: &Path, tensors: impl IntoIterator<Item = &'a Tensor>) {
    let views = tensors
        .into_iter()
        .map(|(name, shape, dtype, bytes)| (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    fs::write(path, safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap()).unwrap();
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = fs::read(path).map_or(json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_checkpoint_tells_what_is_in_it() {
    let folder = folder(&config(), 1);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.config(), &config());
    assert_eq!(checkpoint.eos_token_ids(), [0]);
    let (hidden, layer) = (20, 20 * 24 + 2 * 20 * 12 + 24 * 20 + 3 * 20 * 44 + 2 * 20);
    assert_eq!(checkpoint.parameters(), 2 * 270 * hidden + 2 * layer + hidden);
    let norm = checkpoint.tensors().get("model.norm.weight").unwrap();
    assert_eq!((norm.shape, norm.dtype), (&[20][..], Dtype::F32));
    assert!(norm.to_f32().iter().all(|weight| (0.8..1.2).contains(weight)));
    assert!(checkpoint.chat_template().is_some());
}

#[test]
fn eos_of_the_generation_config_comes_first_and_may_be_several() {
    let folder = folder(&config(), 1);
    let path = folder.path().join("generation_config.json");
    for (content, expected) in [
        (json!({ "eos_token_id": [4, 5] }), &[4, 5][..]),
        (json!({ "eos_token_id": 6, "temperature": 0.7 }), &[6]),
        (json!({ "temperature": 0.7 }), &[0]),
    ] {
        fs::write(&path, content.to_string()).unwrap();
        assert_eq!(Checkpoint::open(folder.path()).unwrap().eos_token_ids(), expected);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(Checkpoint::open(folder.path()).unwrap().eos_token_ids(), [0]);
}

#[test]
fn half_precision_weights_are_read_exactly() {
    for dtype in [safetensors::Dtype::BF16, safetensors::Dtype::F16] {
        let folder = folder(&config(), 2);
        let path = folder.path().join("model.safetensors");
        let mut tensors = read_tensors(&path);
        let mut expected = Vec::new();
        for (_, _, found, bytes) in &mut tensors {
            let values = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b));
            let (rounded, halves): (Vec<f32>, Vec<[u8; 2]>) = values
                .map(|value| match dtype {
                    safetensors::Dtype::BF16 => (bf16::from_f32(value).to_f32(), bf16::from_f32(value).to_le_bytes()),
                    _ => (f16::from_f32(value).to_f32(), f16::from_f32(value).to_le_bytes()),
                })
                .unzip();
            expected.push(rounded);
            (*found, *bytes) = (dtype, halves.concat());
        }
        write_tensors(&path, &tensors);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        for ((name, ..), expected) in tensors.iter().zip(expected) {
            assert_eq!(checkpoint.tensors().get(name).unwrap().to_f32(), expected, "{name}");
        }
    }
}

/// Moves the weights into two shards with an index.
fn shard(folder: &Path) -> Value {
    let mut tensors = read_tensors(&folder.join("model.safetensors"));
    // They come in any order: which shard has which must not be chance.
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let (first, second) = tensors.split_at(5);
    let mut index = serde_json::Map::new();
    for (file, tensors) in [("a.safetensors", first), ("b.safetensors", second)] {
        write_tensors(&folder.join(file), tensors);
        index.extend(tensors.iter().map(|(name, ..)| (name.clone(), json!(file))));
    }
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    json!({ "metadata": {}, "weight_map": index })
}

#[test]
fn shards_are_read_as_one() {
    let folder = folder(&config(), 3);
    let whole = Checkpoint::open(folder.path()).unwrap();
    let values: Vec<_> = whole.tensors().names().map(|name| whole.tensors().get(name).unwrap().to_f32()).collect();
    let index = shard(folder.path());
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let sharded = Checkpoint::open(folder.path()).unwrap();
    let found: Vec<_> = sharded.tensors().names().map(|name| sharded.tensors().get(name).unwrap().to_f32()).collect();
    assert_eq!(found, values);
}

/// Spoils a folder, then expects opening it to fail with a message that has all `parts`.
fn check_refused(spoil: impl FnOnce(&Path), parts: &[&str]) {
    let folder = folder(&config(), 4);
    spoil(folder.path());
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?} in: {message}");
    assert!(message.contains(folder.path().to_str().unwrap()), "names no file: {message}");
}

fn edit_tensor(folder: &Path, name: &str, edit: impl FnOnce(&mut Tensor)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path);
    edit(tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap());
    write_tensors(&path, &tensors);
}

#[test]
fn missing_files_are_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        check_refused(
            |folder| fs::remove_file(folder.join(file)).unwrap(),
            &["cannot access", file, "A checkpoint is a folder"],
        );
    }
}

#[test]
fn corrupt_weights_are_refused() {
    let weights = |folder: &Path| folder.join("model.safetensors");
    let bytes = |folder: &Path| fs::read(weights(folder)).unwrap();
    check_refused(|f| fs::write(weights(f), b"").unwrap(), &["model.safetensors is damaged"]);
    check_refused(|f| fs::write(weights(f), b"junk that is no header").unwrap(), &["model.safetensors is damaged"]);
    check_refused(|f| fs::write(weights(f), &bytes(f)[..5000]).unwrap(), &["model.safetensors is damaged"]);
    check_refused(
        |f| fs::write(weights(f), [&bytes(f)[..], b"more"].concat()).unwrap(),
        &["model.safetensors is damaged"],
    );
    check_refused(
        |f| {
            let mut bytes = bytes(f);
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            fs::write(weights(f), bytes).unwrap();
        },
        &["model.safetensors is damaged"],
    );
}

#[test]
fn wrong_weights_are_refused_by_name() {
    let norm = "model.norm.weight";
    let not_finite = |value: f32| {
        move |folder: &Path| edit_tensor(folder, norm, |tensor| tensor.3[12..16].copy_from_slice(&value.to_le_bytes()))
    };
    check_refused(not_finite(f32::NAN), &[norm, "NaN at element 3", "finite"]);
    check_refused(not_finite(f32::INFINITY), &[norm, "inf at element 3"]);
    check_refused(|f| edit_tensor(f, norm, |t| t.1 = vec![4, 5]), &[norm, "[4, 5]", "[20]"]);
    check_refused(|f| edit_tensor(f, norm, |t| t.0 = "other".to_owned()), &["`other` is not part of"]);
    check_refused(|f| edit_tensor(f, norm, |t| t.2 = safetensors::Dtype::I32), &[norm, "I32", "F32, BF16 and F16"]);
    check_refused(
        |folder| {
            let path = folder.join("model.safetensors");
            let tensors = read_tensors(&path);
            write_tensors(&path, tensors.iter().filter(|tensor| tensor.0 != norm));
        },
        &["no tensor `model.norm.weight`", "[20]"],
    );
}

#[test]
fn code_and_pickles_are_refused() {
    check_refused(
        |f| edit_json(&f.join("config.json"), |config| config["auto_map"] = json!({ "AutoModel": "m.M" })),
        &["config.json has `auto_map`", "never run"],
    );
    check_refused(
        |f| fs::rename(f.join("model.safetensors"), f.join("pytorch_model.bin")).unwrap(),
        &["pytorch_model.bin is a pickle", "safetensors"],
    );
    let beside = folder(&config(), 1);
    fs::write(beside.path().join("pytorch_model.bin"), "anything").unwrap();
    assert!(Checkpoint::open(beside.path()).is_ok(), "a pickle that nobody reads does no harm");
}

#[test]
fn a_wrong_index_is_refused() {
    let spoil = |edit: fn(&mut Value)| {
        move |folder: &Path| {
            let mut index = shard(folder);
            edit(&mut index["weight_map"]);
            fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
    };
    check_refused(
        spoil(|map| map["model.norm.weight"] = json!("../b.safetensors")),
        &["index.json", "../b.safetensors"],
    );
    check_refused(spoil(|map| map["model.norm.weight"] = json!("a.safetensors")), &["model.norm.weight", "lacks it"]);
    check_refused(spoil(|map| map["model.norm.weight"] = json!("c.safetensors")), &["cannot access", "c.safetensors"]);
    check_refused(spoil(|map| map["unknown"] = json!("a.safetensors")), &["`unknown`", "lacks it"]);
}

#[test]
fn configurations_that_do_not_fit_the_files_are_refused() {
    for (field, value, parts) in [
        ("model_type", json!("mamba"), &["`model_type` is \"mamba\"", "Supported: \"llama\""][..]),
        ("vocab_size", json!(100), &["tokenizer.json has a token with id", "100"]),
        ("hidden_size", json!(24), &["has shape [270, 20]", "[270, 24]"]),
        ("model_type", json!("qwen2"), &["no tensor `model.layers.0.self_attn.k_proj.bias`", "[12]"]),
        ("attention_bias", json!(true), &["no tensor `model.layers.0.self_attn.k_proj.bias`"]),
    ] {
        check_refused(|folder| edit_json(&folder.join("config.json"), |config| config[field] = value), parts);
    }
}

#[test]
fn a_digest_names_content_and_nothing_else() {
    let first = folder(&config(), 5);
    let reference = digest(first.path()).unwrap();
    assert_eq!(reference.len(), "sha256:".len() + 64);
    assert_eq!(digest(folder(&config(), 5).path()).unwrap(), reference, "the same content elsewhere");
    assert_ne!(digest(folder(&config(), 6).path()).unwrap(), reference, "other weights");
    fs::write(first.path().join("report.json"), "{}").unwrap();
    fs::write(first.path().join("README.md"), "a model").unwrap();
    fs::create_dir(first.path().join("logs")).unwrap();
    assert_eq!(digest(first.path()).unwrap(), reference, "files that are not the model's");
    fs::remove_file(first.path().join("generation_config.json")).unwrap();
    assert_ne!(digest(first.path()).unwrap(), reference, "a file less");
    assert!(digest(&first.path().join("logs")).unwrap_err().to_string().contains("logs"));
}
