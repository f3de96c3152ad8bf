//! Results in S3: `s3://BUCKET/PREFIX/DIGEST/`, the report last. A folder without its report is no result, whoever left it so; one with
//! its report is never written again.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig, WriteMultipart};

use crate::access::Access;
use crate::error::{Result, StorageError};
use crate::progress::Meter;
use crate::remote::{s3_advice, s3_error, s3_store};
use crate::source::{Source, SourceError};

/// Parts of an upload; S3 allows 10 000 of them, at least 5 MiB each.
const PART_BYTES: usize = 16 << 20;
const PARTS_AT_ONCE: usize = 4;
/// Larger files go up in parts.
const SINGLE_PUT_BYTES: u64 = 16 << 20;

/// A folder of S3 for results.
pub struct ResultStore {
    store: AmazonS3,
    bucket: String,
    prefix: String,
    advice: String,
}

impl ResultStore {
    /// Where results go.
    pub fn open(uri: &str, access: &Access) -> Result<Self> {
        let Source::S3 { bucket, key } = Source::parse(uri)? else {
            return Err(SourceError { found: uri.to_owned() }.into());
        };
        let store = s3_store(&bucket, access, RetryConfig::default())?;
        Ok(Self { store, advice: s3_advice(&bucket, access), bucket, prefix: key })
    }

    /// A small object of a result; `None` where it is not there.
    pub async fn read(&self, result: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let (location, place) = self.location(result, name)?;
        match self.store.get(&location).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(|error| self.failed(&format!("GET {place}"), error))?;
                Ok(Some(bytes.to_vec()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&format!("GET {place}"), error)),
        }
    }

    /// Bytes of everything in a result.
    pub async fn size(&self, result: &str) -> Result<u64> {
        let (folder, place) = self.location(result, "")?;
        let listed = self.store.list_with_delimiter(Some(&folder)).await;
        let listed = listed.map_err(|error| self.failed(&format!("LIST {place}"), error))?;
        Ok(listed.objects.iter().map(|object| object.size).sum())
    }

    /// Uploads the visible files of a folder, `last` after all others, and not if it is there already.
    pub async fn write(&self, result: &str, folder: &FilePath, last: &str, meter: &Meter) -> Result<()> {
        let files = files_of(folder, last)?;
        meter.begin(files.iter().map(|(_, _, size)| size).sum(), 0);
        for (path, name, size) in &files {
            let (location, place) = self.location(result, name)?;
            if name == last {
                self.put_last(&location, &place, path).await?;
            } else if *size <= SINGLE_PUT_BYTES {
                let payload = read(path)?;
                let put = self.store.put(&location, payload).await;
                put.map_err(|error| self.failed(&format!("PUT {place}"), error))?;
            } else {
                self.put_parts(&location, path).await.map_err(|error| match error {
                    PutError::Store(error) => self.failed(&format!("PUT {place}"), error),
                    PutError::Own(error) => error,
                })?;
            }
            meter.add(*size);
        }
        Ok(())
    }

    /// Two writers of the same result: the first one's report stays.
    async fn put_last(&self, location: &Path, place: &str, path: &FilePath) -> Result<()> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(location, read(path)?, options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Err(StorageError::Exists { place: place.to_owned() })
            }
            Err(error) => Err(self.failed(&format!("PUT {place}"), error)),
        }
    }

    async fn put_parts(&self, location: &Path, path: &FilePath) -> std::result::Result<(), PutError> {
        let upload = self.store.put_multipart(location).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        match copy(path, &mut writer).await {
            Ok(()) => writer.finish().await.map(|_| ()).map_err(PutError::Store),
            Err(error) => {
                // best effort: the error that is reported is the first one
                drop(writer.abort().await);
                Err(error)
            }
        }
    }

    fn location(&self, result: &str, name: &str) -> Result<(Path, String)> {
        let key = format!("{}/{result}/{name}", self.prefix);
        let place = format!("s3://{}/{}", self.bucket, key.trim_start_matches('/'));
        let location = Path::parse(key.trim_matches('/')).map_err(|error| StorageError::unexpected(&place, error))?;
        Ok((location, place))
    }

    fn failed(&self, asked: &str, error: object_store::Error) -> StorageError {
        s3_error(asked, error, &self.advice)
    }
}

/// The store's error, or one of the disk.
enum PutError {
    Store(object_store::Error),
    Own(StorageError),
}

impl From<object_store::Error> for PutError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

async fn copy(path: &FilePath, writer: &mut WriteMultipart) -> std::result::Result<(), PutError> {
    use tokio::io::AsyncReadExt;
    let own = |error| PutError::Own(StorageError::file(path)(error));
    let mut file = tokio::fs::File::open(path).await.map_err(own)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        writer.wait_for_capacity(PARTS_AT_ONCE).await?;
        match file.read(&mut buffer).await.map_err(own)? {
            0 => return Ok(()),
            n => writer.write(&buffer[..n]),
        }
    }
}

fn read(path: &FilePath) -> Result<PutPayload> {
    fs::read(path).map(PutPayload::from).map_err(StorageError::file(path))
}

/// Path, name and size of the visible files, `last` at the end.
fn files_of(folder: &FilePath, last: &str) -> Result<Vec<(PathBuf, String, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(StorageError::file(folder))? {
        let entry = entry.map_err(StorageError::file(folder))?;
        let found = entry.metadata().map_err(StorageError::file(folder))?;
        match entry.file_name().into_string() {
            Ok(name) if found.is_file() && !name.starts_with('.') => files.push((entry.path(), name, found.len())),
            _ => {}
        }
    }
    files.sort_by_key(|(_, name, _)| (name == last, name.clone()));
    match files.last() {
        Some((_, name, _)) if name == last => Ok(files),
        _ => Err(StorageError::Unusable {
            place: folder.display().to_string(),
            problem: format!("has no {last}, so it is no complete result"),
        }),
    }
}
