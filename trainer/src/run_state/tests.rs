//! Every bit of a state counts, and a damaged one costs no more than what came after the one before.

use candle_core::{DType, Device, Tensor};
use cllm_engine::JacobiTrajectory;
use cllm_engine::checkpoint::ModelConfig;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::best::Merit;
use crate::trajectories::{TrajectoryExample, from_columns, to_columns};

/// Numbers whose decimals a careless reader rounds.
fn settings() -> Value {
    json!({ "learning_rate": 2.0_f64.sqrt() / 7000.0, "steps": 30, "beta1": 1.0 / 3.0 })
}

fn model() -> DifferentiableModel {
    let config = r#"{"model_type": "llama", "vocab_size": 9, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "tie_word_embeddings": true, "eos_token_id": 0,
        "rms_norm_eps": 1e-5, "rope_theta": 5000.0}"#;
    let config = ModelConfig::from_json(config).unwrap();
    let shapes = config.tensor_shapes();
    let read = |name: &str| {
        let (_, shape) = shapes.iter().find(|(found, _)| found == name).unwrap();
        Tensor::ones(shape.as_slice(), DType::F32, &Device::Cpu)
    };
    DifferentiableModel::new((&config).into(), DType::F32, read).unwrap()
}

fn example() -> TrajectoryExample {
    let blocks = vec![JacobiTrajectory { position: 0, states: vec![vec![7, 7], vec![5, 0]] }];
    TrajectoryExample { index: 3, tokens: vec![8, 5, 0], prompt_len: 1, blocks }
}

/// What a run may hold after so many steps.
fn reached(model: &DifferentiableModel, step: u64) -> (OptimizerState, Record) {
    let named = model.variables();
    let variables: Vec<&Var> = named.iter().map(|(_, variable)| *variable).collect();
    let mut state = OptimizerState::new(&variables).unwrap();
    state.step = step;
    for (index, value) in state.weights.iter_mut().chain(&mut state.second).flatten().enumerate() {
        *value += 1.0 / (index as f32 + step as f32);
    }
    let best: Values = state.weights.iter().map(|values| values.iter().map(|value| -value).collect()).collect();
    let mut record = Record { refreshed: to_columns(&[&example()]), ..Record::default() };
    for step in 1..=step {
        let loss = 1.0 / (step as f64 + 0.1);
        record.history.add_losses(vec![("loss", loss)]);
        record.history.end_step(step, 30, vec![("validationLoss", loss.sqrt())]);
        record.watch.updated(step, loss, 100).unwrap();
        Best::challenge(&mut record.best, Mark { step, merit: Merit::of_kept_quality(-loss) }, &best);
    }
    (state, record)
}

fn write(folder: &Path, model: &DifferentiableModel, step: u64) {
    let (state, record) = reached(model, step);
    save(folder, model, &state, &record, &settings()).unwrap();
}

/// A folder with the states of these steps.
fn folder(model: &DifferentiableModel, steps: &[u64]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for step in steps {
        write(folder.path(), model, *step);
    }
    folder
}

fn steps(folder: &Path) -> Vec<u64> {
    states(folder).unwrap().into_iter().map(|(step, _)| step).collect()
}

#[test]
fn a_state_is_read_as_it_was_written() {
    let model = model();
    let folder = folder(&model, &[10, 20, 30]);
    assert_eq!(load(folder.path(), &model, &settings()).unwrap(), Some(reached(&model, 30)));
    assert_eq!(steps(folder.path()), [20, 30], "the one before is kept");
    let (state, record) = reached(&model, 40);
    assert_eq!(from_columns(&record.refreshed).unwrap(), [example()]);
    let usual = Record { best: None, refreshed: Vec::new(), ..record };
    save(folder.path(), &model, &state, &usual, &settings()).unwrap();
    assert_eq!(load(folder.path(), &model, &settings()).unwrap(), Some((state, usual)));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(load(empty.path(), &model, &settings()).unwrap(), None);
}

#[test]
fn any_damage_is_noticed_and_the_state_before_taken() {
    let model = model();
    let folder = folder(&model, &[1, 2]);
    let before = Some(reached(&model, 1));
    let (_, newest) = states(folder.path()).unwrap().pop().unwrap();
    let sound = fs::read(&newest).unwrap();
    let flipped = (0..sound.len()).map(|index| {
        let mut bytes = sound.clone();
        bytes[index] ^= 1 << (index % 8);
        (format!("byte {index} is another"), bytes)
    });
    let cut = (0..sound.len()).step_by(61).map(|len| (format!("cut to {len} bytes"), sound[..len].to_vec()));
    let zeros = [("zeros".to_owned(), vec![0; sound.len()]), ("longer".to_owned(), [sound.as_slice(), &[0]].concat())];
    for (damage, bytes) in flipped.chain(cut).chain(zeros) {
        fs::write(&newest, bytes).unwrap();
        assert_eq!(load(folder.path(), &model, &settings()).unwrap(), before, "{damage}");
        assert_eq!(steps(folder.path()), [1], "{damage}");
    }
}

#[test]
fn a_run_without_a_sound_state_does_not_begin_anew() {
    let model = model();
    let folder = folder(&model, &[1, 2]);
    for (_, path) in states(folder.path()).unwrap() {
        fs::write(path, b"").unwrap();
    }
    let failure = load(folder.path(), &model, &settings()).unwrap_err();
    let said = failure.to_string();
    for part in ["no checkpoint in", "step-00000001.safetensors: ", "step-00000002.safetensors: ", "to begin anew"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(failure.exit_code(), 2, "nothing that a retry mends");
    assert_eq!(steps(folder.path()), [1, 2], "for whoever wants to look at them");
}

#[test]
fn a_damaged_state_is_none_of_the_last_two() {
    let model = model();
    let folder = folder(&model, &[10, 20]);
    fs::write(folder.path().join("step-00000020.safetensors"), b"damaged").unwrap();
    load(folder.path(), &model, &settings()).unwrap();
    // told to stop earlier than before
    write(folder.path(), &model, 15);
    assert_eq!(steps(folder.path()), [10, 15]);
}

#[test]
fn what_a_killed_process_left_half_written_is_removed() {
    let model = model();
    let folder = folder(&model, &[1]);
    let half = folder.path().join(".step-00000002.safetensors.partial");
    fs::create_dir(&half).unwrap();
    fs::write(half.join(".tmpAbc123"), b"half").unwrap();
    assert_eq!(load(folder.path(), &model, &settings()).unwrap(), Some(reached(&model, 1)));
    assert!(!half.exists());
}

#[test]
fn other_settings_are_named_and_their_states_kept() {
    let model = model();
    let folder = folder(&model, &[1, 2]);
    let mut other = settings();
    other["learning_rate"] = json!(0.1);
    let said = load(folder.path(), &model, &other).unwrap_err().to_string();
    assert!(said.contains("different: `learning_rate`"), "{said}");
    forget_finished(folder.path(), &other).unwrap();
    assert_eq!(steps(folder.path()), [1, 2]);
    fs::write(folder.path().join("model.safetensors"), b"not ours").unwrap();
    forget_finished(folder.path(), &settings()).unwrap();
    assert_eq!(steps(folder.path()), [0_u64; 0]);
    write(folder.path(), &model, 3);
    forget(folder.path()).unwrap();
    assert_eq!(steps(folder.path()), [0_u64; 0]);
    assert!(folder.path().join("model.safetensors").exists());
}

#[test]
fn a_state_of_the_version_before_is_read() {
    let model = model();
    let folder = folder(&model, &[7]);
    let (state, record) = reached(&model, 7);
    let record = Record { history: record.history, ..Record::default() };
    let (_, path) = states(folder.path()).unwrap().pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut named: Vec<_> = tensors.iter().map(|(name, view)| (name, view.data())).collect();
    named.retain(|(name, _)| !name.starts_with("best.") && !name.starts_with(REFRESHED));
    named.sort_by(|a, b| a.0.cmp(b.0));
    let checksum = checksum(named.iter().copied());
    let (settings, history) = (settings(), &record.history);
    let metadata = json!({ "version": 1, "step": 7, "checksum": checksum, "settings": settings, "history": history });
    let stored = |bytes: &[u8]| Stored::new(safetensors::Dtype::F32, vec![bytes.len() / 4], bytes.to_vec());
    let tensors = named.iter().map(|(name, bytes)| ((*name).to_owned(), stored(bytes))).collect();
    write_safetensors(&path, tensors, METADATA_KEY, metadata.to_string()).unwrap();
    assert_eq!(load(folder.path(), &model, &settings).unwrap(), Some((state, record)));
}
