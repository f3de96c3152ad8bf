//! The present weights of a run for the engine, which loads checkpoints: by way of a folder that is gone afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cllm_engine::Checkpoint;
use cllm_engine::differentiable::DifferentiableModel;

use crate::failure::{Failure, Result};
use crate::model_folder::{self, StoredDtype};
use crate::storage;

/// Where they go.
#[derive(Clone, Debug)]
pub(super) struct Present {
    /// Lends configuration and tokenizer.
    target: Arc<Checkpoint>,
    folder: PathBuf,
    /// As the result will be stored, so that it is judged as it will be served.
    dtype: StoredDtype,
}

impl Present {
    /// In the state folder of the run.
    pub(super) fn new(target: &Arc<Checkpoint>, state: &Path, dtype: StoredDtype) -> Self {
        Self { target: Arc::clone(target), folder: state.join("probe"), dtype }
    }

    /// What `read` makes of a checkpoint of the present weights, adapters merged. It must not need the checkpoint any more.
    pub(super) fn with<T>(
        &self,
        model: &DifferentiableModel,
        read: impl FnOnce(&Checkpoint) -> Result<T>,
    ) -> Result<T> {
        // a killed process may have left it
        storage::remove(&self.folder)?;
        model_folder::write(&self.folder, &self.target, model, self.dtype, |_| Ok(()))?;
        let outcome = Checkpoint::open(&self.folder).map_err(Failure::from).and_then(|checkpoint| read(&checkpoint));
        let removed = storage::remove(&self.folder);
        let found = outcome?;
        removed?;
        Ok(found)
    }
}
