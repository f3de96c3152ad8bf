//! From `--model` to a folder: a remote checkpoint is downloaded into the cache first.

use std::path::PathBuf;
use std::sync::Arc;

use cllm_crds::ArtifactProgress;
use cllm_storage::{Freshness, Meter, Progress, Request, Source, StorageError, is_remote};
use tokio::runtime::Handle;

use crate::{args::Args, serve::ServeError};

/// The folder of the checkpoint. Blocks as long as the download takes; `runtime` does the work.
pub(crate) fn folder(args: &Args, meter: &Arc<Meter>, runtime: &Handle) -> Result<PathBuf, ServeError> {
    if !is_remote(&args.model) {
        return Ok(PathBuf::from(&args.model));
    }
    let source = Source::parse(&args.model).map_err(StorageError::from)?;
    let cache = args.cache.clone().ok_or_else(|| {
        StorageError::Configuration(format!(
            "{source} must be downloaded: say with --cache where to, for example --cache=./cache"
        ))
    })?;
    let request = Request::checkpoint(source, args.access.access(), cache, Freshness::Latest);
    let fetched = runtime.block_on(cllm_storage::fetch(&request, meter))?;
    tracing::info!(folder = %fetched.folder.display(), revision = fetched.revision, "the checkpoint is here");
    Ok(fetched.folder)
}

/// As `/status` shows it; `None` when nothing is downloaded, or nothing more.
pub(crate) fn artifact(meter: &Meter) -> Option<ArtifactProgress> {
    let Progress { bytes_done, bytes_total, bytes_per_second, estimated_remaining_seconds } = meter.progress();
    (bytes_done < bytes_total).then_some(ArtifactProgress {
        bytes_done,
        bytes_total,
        bytes_per_second,
        estimated_remaining_seconds,
    })
}
