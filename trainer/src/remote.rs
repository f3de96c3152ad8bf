//! Places outside of this machine: what a stage reads from them is fetched before it starts, what it puts out is uploaded when it is
//! complete. The stages themselves know only folders.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cllm_crds::status_page::Output;
use cllm_storage::{Fetched, Freshness, Meter, Request, ResultStore, Source, StorageError, is_remote};

use crate::arguments::{Command, StorageArguments};
use crate::evaluate::{self, EvaluateArguments, Evaluated, REPORT, ReportArguments};
use crate::failure::{Failure, Result};
use crate::progress::Reporter;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What an argument of a stage names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A checkpoint.
    Model,
    /// Examples.
    Dataset,
}

/// The command with everything that it reads on this machine.
pub(crate) fn localize(command: &Command, storage: &StorageArguments, reporter: &mut Reporter) -> Result<Command> {
    let mut command = command.clone();
    for (input, place) in command.inputs() {
        let Some(uri) = place.to_str().filter(|text| is_remote(text)) else { continue };
        *place = fetch(input, uri, storage, reporter)?;
    }
    reporter.restart();
    Ok(command)
}

fn fetch(input: Input, uri: &str, storage: &StorageArguments, reporter: &mut Reporter) -> Result<PathBuf> {
    let source = Source::parse(uri).map_err(StorageError::from)?;
    let cache = cache(storage, uri)?.to_owned();
    // all stages of a training shall see the same, whatever happens to the source meanwhile
    let request = match input {
        Input::Model => Request::checkpoint(source, storage.model.access(), cache, Freshness::First),
        Input::Dataset => Request::files(source, storage.dataset.access(), cache, Freshness::First)?,
    };
    let meter = Meter::default();
    let Fetched { folder, files, .. } = wait_for(cllm_storage::fetch(&request, &meter), &meter, reporter)?;
    Ok(match (input, files.as_slice()) {
        (Input::Dataset, [only]) => folder.join(only),
        (Input::Dataset | Input::Model, _) => folder,
    })
}

/// `evaluate`, whose output may be in S3: then the result is made in the cache, and uploaded with the report last.
pub(crate) fn evaluate(
    arguments: &EvaluateArguments,
    storage: &StorageArguments,
    threads: usize,
    reporter: &mut Reporter,
) -> Result<Evaluated> {
    let uri = match arguments.output.to_str() {
        Some(uri) if is_remote(uri) => uri,
        _ => return evaluate::run(arguments, threads, reporter),
    };
    let store = ResultStore::open(uri, &storage.output.access())?;
    let digest = cllm_engine::checkpoint::digest(&arguments.model)?;
    let result = digest.trim_start_matches("sha256:");
    let target_digest = || Ok(cllm_engine::checkpoint::digest(&arguments.target)?);
    if let Some(evaluated) = stored(&store, uri, (&digest, target_digest), reporter)? {
        return Ok(evaluated);
    }
    let local = EvaluateArguments { output: staging(storage, uri)?, ..arguments.clone() };
    let evaluated = evaluate::run(&local, threads, reporter)?;
    reporter.restart();
    let meter = Meter::default();
    let upload = async { store.write(result, &local.output.join(result), REPORT, &meter).await };
    wait_for(upload, &meter, reporter)?;
    Ok(evaluated)
}

/// `report`, whose output may be in S3.
pub(crate) fn report(
    arguments: &ReportArguments,
    storage: &StorageArguments,
    reporter: &mut Reporter,
) -> Result<Evaluated> {
    let uri = match arguments.output.to_str() {
        Some(uri) if is_remote(uri) => uri,
        _ => return evaluate::stored(arguments),
    };
    let store = ResultStore::open(uri, &storage.output.access())?;
    let digest = cllm_engine::checkpoint::digest(&arguments.model)?;
    let target_digest = || Ok(cllm_engine::checkpoint::digest(&arguments.target)?);
    let missing = || Failure::BadInput(format!("{uri} has no result of the checkpoint {digest}: evaluate it"));
    stored(&store, uri, (&digest, target_digest), reporter)?.ok_or_else(missing)
}

/// What an earlier run has put there already.
fn stored(
    store: &ResultStore,
    uri: &str,
    (digest, target_digest): (&str, impl Fn() -> Result<String>),
    reporter: &mut Reporter,
) -> Result<Option<Evaluated>> {
    let result = digest.trim_start_matches("sha256:");
    let place = format!("{}/{result}", uri.trim_end_matches('/'));
    let look = async { Ok((store.read(result, REPORT).await?, store.size(result).await?)) };
    let (report, size_bytes) = wait_for(look, &Meter::default(), reporter)?;
    let Some(report) = report else { return Ok(None) };
    reporter.note(&format!("{place} is complete already"));
    let report = evaluate::read_report(&report, &place, &target_digest()?)?;
    Ok(Some(Evaluated { report, output: Output { uri: place, digest: digest.to_owned(), size_bytes } }))
}

fn cache<'a>(storage: &'a StorageArguments, uri: &str) -> Result<&'a Path> {
    storage.cache.as_deref().ok_or_else(|| {
        Failure::BadInput(format!(
            "{uri} is not on this machine: say with --cache where it may be kept, for example --cache=./cache"
        ))
    })
}

fn staging(storage: &StorageArguments, uri: &str) -> Result<PathBuf> {
    Ok(cache(storage, uri)?.join("output"))
}

/// Waits for network work, shows how far it is, and gives it up at a signal: what came is kept.
fn wait_for<T>(
    work: impl Future<Output = std::result::Result<T, StorageError>>,
    meter: &Meter,
    reporter: &mut Reporter,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::engine)?;
    runtime.block_on(async {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done.map_err(Failure::from),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    reporter.check_interruption()?;
                    show(meter, reporter);
                }
            }
        }
    })
}

fn show(meter: &Meter, reporter: &mut Reporter) {
    let progress = meter.progress();
    if progress.bytes_total > 0 {
        let pace = progress.bytes_per_second.unwrap_or_default().to_string();
        reporter.update(progress.bytes_done, progress.bytes_total, &[("transferBytesPerSecond", pace)]);
    }
}
