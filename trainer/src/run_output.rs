//! The checkpoint that a run puts out, with a note of the settings it was made with: a second run with the same settings finds it.

use std::fs::{self, File};
use std::path::Path;

use cllm_engine::Checkpoint;
use cllm_engine::differentiable::DifferentiableModel;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::adapter_folder;
use crate::data;
use crate::failure::{Failure, Result};
use crate::history::History;
use crate::model_folder::{self, StoredDtype};
use crate::run_state::other_settings;

/// The note beside the weights. It does not count into the digest of the checkpoint.
const NOTE: &str = "training.json";
/// The figures of the run, as a list of [`crate::history::Point`]; it does not count either.
pub(crate) const HISTORY: &str = "history.json";

/// Whether the output of a run with these settings is there. Fails where it is the output of another run.
pub(crate) fn is_done(output: &Path, settings: &Value) -> Result<bool> {
    if !output.exists() {
        return Ok(false);
    }
    let note = fs::read_to_string(output.join(NOTE)).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    match note {
        Some(found) if found == *settings => Ok(true),
        Some(found) => Err(other_settings(output, &found, settings)),
        None => Err(Failure::BadInput(format!(
            "{} exists and was not written by this command; remove it or name another --output",
            output.display()
        ))),
    }
}

/// Writes the output, with the adapters beside the merged weights where there are any. It appears when it is complete.
pub(crate) fn write(
    output: &Path,
    from: &Checkpoint,
    model: &DifferentiableModel,
    dtype: StoredDtype,
    settings: &Value,
    history: &History,
) -> Result<()> {
    let history = serde_json::to_value(history.points()).map_err(Failure::engine)?;
    model_folder::write(output, from, model, dtype, |folder| {
        model_folder::write_json(&folder.join(NOTE), settings)?;
        model_folder::write_json(&folder.join(HISTORY), &history)?;
        adapter_folder::write(folder, model)
    })
}

/// `sha256:<hex>` of the files of a data set, one after the other.
pub(crate) fn file_digest(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for file in data::files(path)? {
        let copied = File::open(&file).and_then(|mut file| std::io::copy(&mut file, &mut hash));
        copied.map_err(Failure::read(&file))?;
    }
    Ok(format!("sha256:{:x}", hash.finalize()))
}
