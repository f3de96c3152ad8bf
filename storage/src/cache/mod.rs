//! The cache: a folder with one folder for each source and state of it, each there completely or not at all.
//!
//! ```text
//! CACHE/NAME-KEY/            finished; `.source.json` says from where, and how large each file is
//! CACHE/.NAME-KEY.partial/   unfinished; whoever holds the lock goes on with it
//! CACHE/.ID.lock             flock of whoever downloads that source; it ends with its process
//! ```
//!
//! Older states stay where they are: somebody may serve them. They are removed by hand, or with the volume.

mod archive;
mod finished;
mod lock;
mod partial;

use std::fs;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use self::finished::Finished;
use crate::access::Access;
use crate::error::{Result, StorageError};
use crate::files;
use crate::progress::Meter;
use crate::remote::{Listing, Remote, Wanted};
use crate::retry::{RetryPolicy, with_retries};
use crate::source::Source;

/// Files that are downloaded at once.
const CONCURRENCY: usize = 4;
/// Left free on a volume: checkpoints are not the only thing that is written.
const SPARE_BYTES: u64 = 64 << 20;

/// What is to be there.
#[derive(Clone, Debug)]
pub struct Request {
    /// From where.
    pub source: Source,
    /// By which way.
    pub access: Access,
    /// Where to.
    pub cache: PathBuf,
    /// Which state of the source.
    pub freshness: Freshness,
    /// How patiently.
    pub retries: RetryPolicy,
    /// Which files of it.
    pub wanted: Wanted,
}

/// Which state of a source that can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The present one; the last one in the cache while the source does not answer.
    Latest,
    /// The one that was fetched into this cache first, so that all stages of a training see the same.
    First,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The folder with the files.
    pub folder: PathBuf,
    /// A commit, a digest, or a hash of names, sizes and tags.
    pub revision: String,
    /// Names of the files, in order.
    pub files: Vec<String>,
}

impl Request {
    /// The files of a checkpoint.
    pub fn checkpoint(source: Source, access: Access, cache: PathBuf, freshness: Freshness) -> Self {
        Self { source, access, cache, freshness, retries: RetryPolicy::default(), wanted: Wanted::Checkpoint }
    }

    /// The file, or the files of the pattern, of an S3 source.
    pub fn files(source: Source, access: Access, cache: PathBuf, freshness: Freshness) -> Result<Self> {
        match source {
            Source::S3 { .. } => {
                Ok(Self { source, access, cache, freshness, retries: RetryPolicy::default(), wanted: Wanted::Files })
            }
            Source::Hub { .. } | Source::Oci { .. } => Err(StorageError::Unusable {
                place: source.to_string(),
                problem: "cannot be read as data; put the files into S3 or a volume (s3://BUCKET/PATH/*.jsonl.gz)"
                    .to_owned(),
            }),
        }
    }

    /// The same source, reached the same way.
    fn identity(&self) -> String {
        let endpoint = self.access.endpoint.as_deref().unwrap_or_default();
        format!("{} {endpoint} {:?}", self.source, self.wanted)
    }

    fn folder_name(&self, revision: &str) -> String {
        let text = self.source.to_string();
        let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let readable: String =
            last.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(40).collect();
        format!("{}-{}", readable.trim_start_matches('.'), hash(&[&self.identity(), revision]))
    }

    fn finished(&self, listing: Option<&Listing>) -> Option<Finished> {
        match listing {
            Some(listing) => Finished::open(&self.cache.join(self.folder_name(&listing.revision))),
            None if self.freshness == Freshness::First || self.source.is_immutable() => {
                Finished::newest(&self.cache, &self.identity())
            }
            None => None,
        }
    }
}

/// Brings the source into the cache, and answers where it is. Resumes what a dead process left; waits for a living one that does the
/// same.
pub async fn fetch(request: &Request, meter: &Meter) -> Result<Fetched> {
    fs::create_dir_all(&request.cache).map_err(StorageError::file(&request.cache))?;
    if let Some(finished) = request.finished(None) {
        return Ok(finished.fetched(meter));
    }
    let remote = Remote::new(&request.source, &request.access)?;
    let listing = match list(request, &remote).await {
        Ok(listing) => listing,
        Err(error) => return fall_back(request, error, meter),
    };
    if let Some(finished) = request.finished(Some(&listing)) {
        return Ok(finished.fetched(meter));
    }
    let total = listing.files.iter().map(|file| file.size).sum();
    meter.begin(total, 0);
    let place = Place::new(request, &listing);
    let lock = request.cache.join(format!(".{}.lock", hash(&[&request.identity()])));
    let _lock = lock::wait(&lock, || meter.set(partial::bytes_in(&place.partial))).await?;
    // whoever held the lock has done the work, perhaps with a later state
    if let Some(finished) = request.finished(None).or_else(|| request.finished(Some(&listing))) {
        return Ok(finished.fetched(meter));
    }
    download(request, &remote, &listing, &place, meter).await?;
    let finished = Finished::open(&place.folder);
    finished.map(|finished| finished.fetched(meter)).ok_or_else(|| StorageError::File {
        path: place.folder.clone(),
        source: std::io::Error::other("it vanished after it was written"),
    })
}

async fn list(request: &Request, remote: &Remote) -> Result<Listing> {
    tracing::info!(source = %request.source, "listing");
    with_retries(&request.retries, async || remote.list(request.wanted).await).await
}

/// A source that does not answer must not keep a server from starting with what it served yesterday.
fn fall_back(request: &Request, error: StorageError, meter: &Meter) -> Result<Fetched> {
    let is_unreachable = matches!(error, StorageError::Unavailable { .. });
    match Finished::newest(&request.cache, &request.identity()).filter(|_| is_unreachable) {
        Some(finished) => {
            let fetched = finished.fetched(meter);
            tracing::warn!(revision = fetched.revision, "{error}: using the last state in the cache");
            Ok(fetched)
        }
        None => Err(error),
    }
}

/// Where the finished and the unfinished folder are.
struct Place {
    folder: PathBuf,
    partial: PathBuf,
}

impl Place {
    fn new(request: &Request, listing: &Listing) -> Self {
        let name = request.folder_name(&listing.revision);
        Self { partial: request.cache.join(format!(".{name}.partial")), folder: request.cache.join(name) }
    }
}

async fn download(request: &Request, remote: &Remote, listing: &Listing, place: &Place, meter: &Meter) -> Result<()> {
    let Place { folder, partial } = place;
    fs::create_dir_all(partial).map_err(StorageError::file(partial))?;
    let total: u64 = listing.files.iter().map(|file| file.size).sum();
    let done = partial::bytes_in(partial).min(total);
    check_space(&request.cache, total - done)?;
    meter.begin(total, done);
    tracing::info!(source = %request.source, revision = listing.revision, bytes = total, done, "downloading");
    let downloads = listing.files.iter().map(|file| partial::download(remote, file, partial, &request.retries, meter));
    futures::stream::iter(downloads).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
    archive::unpack_all(listing, partial).await?;
    let (identity, source) = (request.identity(), request.source.to_string());
    let (revision, partial, folder) = (listing.revision.clone(), partial.clone(), folder.clone());
    let is_checkpoint = request.wanted == Wanted::Checkpoint;
    blocking(move || finish(&partial, &folder, Finished::describe(identity, source, revision), is_checkpoint)).await
}

/// The last step: described, on the disk, renamed.
fn finish(partial: &Path, folder: &Path, description: finished::Description, is_checkpoint: bool) -> Result<()> {
    let description = description.with_files_of(partial)?;
    if is_checkpoint {
        let names: Vec<&str> = description.files.iter().map(|file| file.name.as_str()).collect();
        files::check_checkpoint(&description.source, names.len(), &names)?;
    }
    description.write(partial)?;
    if folder.exists() {
        // it was there before, but not as it was described
        fs::remove_dir_all(folder).map_err(StorageError::file(folder))?;
    }
    fs::rename(partial, folder).map_err(StorageError::file(folder))?;
    let parent = folder.parent().unwrap_or(folder);
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(StorageError::file(parent))
}

fn check_space(cache: &Path, needed: u64) -> Result<()> {
    let system = nix::sys::statvfs::statvfs(cache)
        .map_err(|error| StorageError::File { path: cache.to_owned(), source: error.into() })?;
    let free = system.blocks_available() * system.fragment_size();
    if needed > 0 && needed.saturating_add(SPARE_BYTES) > free {
        return Err(StorageError::NoSpace { folder: cache.to_owned(), needed, free });
    }
    Ok(())
}

/// Work on the disk beside the tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::unexpected("the work on the disk", error)),
    }
}

fn hash(parts: &[&str]) -> String {
    format!("{:x}", Sha256::digest(parts.join("\n")))[..16].to_owned()
}
