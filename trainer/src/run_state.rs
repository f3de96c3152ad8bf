//! The state of a training run on disk: complete, checked, resumable bit for bit.
//!
//! A state folder holds the last two `step-00001200.safetensors`. Each has the tensors `weight.NAME`, `first.NAME` and `second.NAME` of
//! every variable, where a check decides over the result `best.NAME` with the weights of the best one so far, where trajectories are
//! refreshed `refreshed.COLUMN` with those that the next steps learn from, and, under the metadata key `cllm`, JSON with the step, a
//! checksum over all of this and all tensors, the settings that decide over the result and what the run knows of itself: its figures,
//! whether it still learns, which check was the best. The data position and all randomness follow from the step and the seed.
//!
//! A state is on the disk before the oldest one is removed. One that fails its checksum is skipped in favor of the one before, and
//! removed when that is sound; a run none of whose states is sound does not begin anew, because nobody would notice what was lost.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Var;
use cllm_engine::differentiable::DifferentiableModel;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::best::{Best, Mark};
use crate::divergence::Watch;
use crate::failure::{Failure, Result};
use crate::history::History;
use crate::model_folder::{Stored, write_safetensors};
use crate::optimizer::{OptimizerState, Values};
use crate::record::Record;
use crate::storage;
use crate::trajectories::{NamedColumns, u32_values};

const KEPT: usize = 2;
const METADATA_KEY: &str = "cllm";
const PREFIX: &str = "step-";
/// Begins the names of the columns of what was refreshed.
const REFRESHED: &str = "refreshed.";
/// In version 1, which is still read, the checksum was over the tensors alone.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    step: u64,
    checksum: String,
    settings: Value,
    /// Absent in states of older versions, as all that follows.
    #[serde(default)]
    history: History,
    #[serde(default)]
    watch: Watch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best: Option<Mark>,
}

/// Writes the state after `state.step` updates and removes all but the last two.
pub(crate) fn save(
    folder: &Path,
    model: &DifferentiableModel,
    state: &OptimizerState,
    record: &Record,
    settings: &Value,
) -> Result<()> {
    let Record { history, watch, best, refreshed } = record;
    let tensors = tensors(model, state, best.as_ref(), refreshed);
    let mut metadata = Metadata {
        version: VERSION,
        step: state.step,
        checksum: String::new(),
        settings: settings.clone(),
        history: history.clone(),
        watch: *watch,
        best: best.as_ref().map(|best| best.mark),
    };
    let without_checksum = serde_json::to_string(&metadata).map_err(Failure::engine)?;
    let contents = tensors.iter().map(|(name, stored)| (name.as_str(), stored.bytes()));
    metadata.checksum = checksum(described(&without_checksum).chain(contents));
    let metadata = serde_json::to_string(&metadata).map_err(Failure::engine)?;
    let path = folder.join(format!("{PREFIX}{:08}.safetensors", state.step));
    write_safetensors(&path, tensors, METADATA_KEY, metadata)?;
    let states = states(folder)?;
    for (_, old) in states.iter().rev().skip(KEPT) {
        fs::remove_file(old).map_err(Failure::write(old))?;
    }
    Ok(())
}

/// Everything that is a tensor, by name.
fn tensors(
    model: &DifferentiableModel,
    state: &OptimizerState,
    best: Option<&Best>,
    refreshed: &NamedColumns,
) -> Vec<(String, Stored)> {
    let column = |(name, values): &(String, Vec<u32>)| (format!("{REFRESHED}{name}"), Stored::from_u32(values));
    let mut tensors: Vec<_> = refreshed.iter().map(column).collect();
    let always = [("first", &state.first), ("second", &state.second), ("weight", &state.weights)];
    for (kind, values) in always.into_iter().chain(best.map(|best| ("best", &best.weights))) {
        for ((name, _), values) in model.variables().into_iter().zip(values) {
            tensors.push((format!("{kind}.{name}"), Stored::from_f32(values)));
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// The newest sound state of a folder; none where there is none yet. Fails where it was made with other settings, or where there are
/// states and none is sound. The folder is locked: what a killed process left half written is removed.
pub(crate) fn load(
    folder: &Path,
    model: &DifferentiableModel,
    settings: &Value,
) -> Result<Option<(OptimizerState, Record)>> {
    storage::remove_unfinished(folder, PREFIX)?;
    let mut damaged = Vec::new();
    for (_, path) in states(folder)?.into_iter().rev() {
        match read(&path, model, settings) {
            Ok(Found::State(state, record)) => {
                // else they would count among the last two
                damaged.iter().try_for_each(|(path, _): &(PathBuf, String)| storage::remove(path))?;
                return Ok(Some((state, record)));
            }
            Ok(Found::OfOtherRun(found)) => return Err(other_settings(folder, &found, settings)),
            Err(problem) => {
                tracing::warn!("skipping the state {}: {problem}", path.display());
                damaged.push((path, problem));
            }
        }
    }
    if damaged.is_empty() { Ok(None) } else { Err(none_is_sound(folder, &damaged)) }
}

/// Removes all states of a folder. The run must be finished and its output complete.
pub(crate) fn forget(folder: &Path) -> Result<()> {
    states(folder)?.iter().try_for_each(|(_, path)| storage::remove(path))
}

/// [`forget`] where a run may have been killed between its output and that: states of other settings stay.
pub(crate) fn forget_finished(folder: &Path, settings: &Value) -> Result<()> {
    let is_of_run = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        metadata_of(&bytes).is_ok_and(|(_, metadata)| metadata.settings == *settings)
    };
    let states = states(folder)?;
    states.iter().filter(|(_, path)| is_of_run(path)).try_for_each(|(_, path)| storage::remove(path))
}

fn none_is_sound(folder: &Path, damaged: &[(PathBuf, String)]) -> Failure {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let list: Vec<_> = damaged.iter().map(|(path, problem)| format!("{}: {problem}", name(path))).collect();
    Failure::BadInput(format!(
        "no checkpoint in {} can be read ({}); put a sound copy there to go on, or remove the folder to begin anew",
        folder.display(),
        list.join("; ")
    ))
}

/// The sentence for a folder that belongs to another run.
pub(crate) fn other_settings(folder: &Path, found: &Value, asked: &Value) -> Failure {
    let list = differences(found, asked);
    Failure::BadInput(format!(
        "{} belongs to a run with other settings (different: {list}); give the same settings to continue it, or another folder",
        folder.display()
    ))
}

/// Names of the settings that two runs do not share.
pub(crate) fn differences(found: &Value, asked: &Value) -> String {
    let of = |settings: &Value| settings.as_object().cloned().unwrap_or_default();
    let (found, asked) = (of(found), of(asked));
    let only_found = found.keys().filter(|name| !asked.contains_key(*name));
    let names = asked.keys().filter(|name| found.get(*name) != asked.get(*name)).chain(only_found);
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn states(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut states = Vec::new();
    for entry in fs::read_dir(folder).map_err(Failure::write(folder))? {
        let path = entry.map_err(Failure::write(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let step = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".safetensors"));
        if let Some(step) = step.and_then(|step| step.parse().ok()) {
            states.push((step, path));
        }
    }
    states.sort();
    Ok(states)
}

/// What a sound state holds.
enum Found {
    State(OptimizerState, Record),
    /// The settings of another run, whose tensors may be others too.
    OfOtherRun(Value),
}

fn read(path: &Path, model: &DifferentiableModel, settings: &Value) -> std::result::Result<Found, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let (text, metadata) = metadata_of(&bytes)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    let mut named: Vec<_> = tensors.iter().map(|(name, view)| (name, view.data())).collect();
    named.sort_by(|a, b| a.0.cmp(b.0));
    let without_checksum = text.replacen(&metadata.checksum, "", 1);
    let found = match metadata.version {
        1 => checksum(named.into_iter()),
        VERSION => checksum(described(&without_checksum).chain(named)),
        other => return Err(format!("it has version {other}, and this program reads up to version {VERSION}")),
    };
    if found != metadata.checksum {
        return Err("its checksum does not fit its content".to_owned());
    }
    if metadata.settings != *settings {
        return Ok(Found::OfOtherRun(metadata.settings));
    }
    let values = |kind: &str| -> std::result::Result<Values, String> {
        let variables = model.variables();
        variables.iter().map(|(name, variable)| one(&tensors, &format!("{kind}.{name}"), variable)).collect()
    };
    let state = OptimizerState {
        step: metadata.step,
        weights: values("weight")?,
        first: values("first")?,
        second: values("second")?,
    };
    let best = metadata.best.map(|mark| Ok::<_, String>(Best { mark, weights: values("best")? })).transpose()?;
    let refreshed = refreshed(&tensors);
    Ok(Found::State(state, Record { history: metadata.history, watch: metadata.watch, best, refreshed }))
}

/// The columns of what was refreshed, in the order of their names.
fn refreshed(tensors: &SafeTensors<'_>) -> NamedColumns {
    let mut columns = NamedColumns::new();
    for (name, view) in tensors.iter() {
        if let Some(name) = name.strip_prefix(REFRESHED) {
            columns.push((name.to_owned(), u32_values(view.data())));
        }
    }
    columns.sort_unstable();
    columns
}

/// What a state says about itself, as it is written and understood.
fn metadata_of(bytes: &[u8]) -> std::result::Result<(String, Metadata), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let text = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or("it is not a state of a run")?;
    let metadata = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok((text.clone(), metadata))
}

/// What a state says about itself, as a part of what the checksum is over.
fn described(without_checksum: &str) -> impl Iterator<Item = (&str, &[u8])> {
    std::iter::once((METADATA_KEY, without_checksum.as_bytes()))
}

fn one(tensors: &SafeTensors<'_>, name: &str, variable: &Var) -> std::result::Result<Vec<f32>, String> {
    let bytes = tensors.tensor(name).map_err(|error| error.to_string())?.data();
    if bytes.len() != 4 * variable.elem_count() {
        return Err(format!("{name} has another size than the model says"));
    }
    Ok(bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

/// Over names, lengths and contents, in the order given.
pub(crate) fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in tensors {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    format!("sha256:{:x}", hash.finalize())
}

#[cfg(test)]
mod tests;
