//! S3 and what speaks like it: objects below a prefix. The state of an object is its tag: it is listed, and asked for by `If-Match`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::client::CredentialProvider;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, RetryConfig};
use sha2::{Digest, Sha256};

use super::{Listing, Opened, RemoteFile, Wanted};
use crate::access::Access;
use crate::error::{Result, StorageError};
use crate::files;
use crate::http::Http;

const REGION: &str = "us-east-1";
const LIST_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) struct Bucket {
    store: AmazonS3,
    name: String,
    key: String,
    advice: String,
}

impl Bucket {
    pub(super) fn new(bucket: &str, key: &str, access: &Access) -> Result<Self> {
        // this crate tries again by itself, with what is on the disk
        let retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let store = store(bucket, access, retries)?;
        Ok(Self { store, name: bucket.to_owned(), key: key.to_owned(), advice: advice(bucket, access) })
    }

    pub(super) async fn list(&self, wanted: Wanted) -> Result<Listing> {
        let place = format!("s3://{}/{}", self.name, self.key);
        let (parent, last) = self.key.rsplit_once('/').unwrap_or(("", &self.key));
        let named = Some(last).filter(|name| name.ends_with(files::GGUF));
        let folder = if wanted == Wanted::Checkpoint && named.is_none() { &self.key } else { parent };
        let prefix = Path::parse(folder).map_err(|error| StorageError::unexpected(&place, error))?;
        let listed = tokio::time::timeout(LIST_TIMEOUT, self.store.list_with_delimiter(Some(&prefix))).await;
        let listed =
            listed.map_err(|_| StorageError::unavailable(&format!("LIST {place}"), "the list does not end"))?;
        let objects = listed.map_err(|error| translate(&format!("LIST {place}"), error, &self.advice))?.objects;
        let found = objects.len();
        let mut listed: Vec<RemoteFile> = objects.into_iter().filter_map(remote_file).collect();
        match wanted {
            Wanted::Checkpoint => {
                listed = files::checkpoint(&place, listed, named, |file| &file.name)?;
            }
            Wanted::Files => {
                listed.retain(|file| files::is_safe(&file.name) && files::matches(last, &file.name));
                if listed.is_empty() {
                    let problem = format!(
                        "matches none of the {found} objects in its folder; correct the address or the pattern"
                    );
                    return Err(StorageError::Unusable { place, problem });
                }
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { revision: revision(&listed), files: listed })
    }

    pub(super) async fn open(&self, file: &RemoteFile, offset: u64) -> Result<Opened> {
        let asked = format!("GET s3://{}/{}", self.name, file.address);
        let location = Path::parse(&file.address).map_err(|error| StorageError::unexpected(&asked, error))?;
        let options = GetOptions {
            if_match: file.tag.clone(),
            range: (offset > 0).then_some(GetRange::Offset(offset)),
            ..GetOptions::default()
        };
        let got = self.store.get_opts(&location, options).await.map_err(|error| match error {
            object_store::Error::Precondition { .. } => StorageError::Changed { file: asked.clone() },
            error => translate(&asked, error, &self.advice),
        })?;
        if got.range.start != offset {
            return Err(StorageError::unexpected(&asked, "another part of the object than was asked for"));
        }
        let tag = got.meta.e_tag.clone();
        let bytes = got.into_stream().map_err(|error| innermost(&error)).boxed();
        Ok(Opened { offset, tag, bytes })
    }
}

/// A bucket, for reading and for writing.
pub(crate) fn store(bucket: &str, access: &Access, retries: RetryConfig) -> Result<AmazonS3> {
    let refused = |error: object_store::Error| StorageError::Configuration(format!("S3 cannot be set up: {error}"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(access.region.as_deref().unwrap_or(REGION))
        .with_retry(retries)
        .with_allow_http(true)
        .with_http_connector(Http::new(access)?);
    if access.endpoint.is_some() {
        builder = builder.with_endpoint(access.endpoint_or("")?.as_str().trim_end_matches('/'));
    }
    builder = match &access.credentials {
        None => builder.with_skip_signature(true),
        Some(folder) => {
            // what is missing is said now, not in the middle of a request
            access.s3_keys()?;
            builder.with_credentials(Arc::new(MountedKeys(folder.clone())))
        }
    };
    builder.build().map_err(refused)
}

/// Keys that are read for every request.
#[derive(Debug)]
struct MountedKeys(PathBuf);

#[async_trait::async_trait]
impl CredentialProvider for MountedKeys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let access = Access { credentials: Some(self.0.clone()), ..Access::default() };
        match access.s3_keys() {
            Ok(Some(keys)) => Ok(Arc::new(AwsCredential {
                key_id: keys.id.reveal().to_owned(),
                secret_key: keys.secret.reveal().to_owned(),
                token: keys.session.map(|session| session.reveal().to_owned()),
            })),
            Ok(None) => Err(object_store::Error::Generic { store: "S3", source: "no credentials".into() }),
            Err(error) => Err(object_store::Error::Generic { store: "S3", source: Box::new(error) }),
        }
    }
}

fn remote_file(object: ObjectMeta) -> Option<RemoteFile> {
    let name = object.location.filename()?.to_owned();
    let address = object.location.to_string();
    Some(RemoteFile { name, size: object.size, sha256: None, address, tag: object.e_tag, archive: None })
}

/// The state of a folder has no name of its own.
fn revision(files: &[RemoteFile]) -> String {
    let mut hash = Sha256::new();
    for RemoteFile { address, size, tag, .. } in files {
        hash.update(serde_json::json!([address, size, tag]).to_string());
    }
    format!("{:x}", hash.finalize())
}

/// What a refused reader or writer should do.
pub(crate) fn advice(bucket: &str, access: &Access) -> String {
    let keys = match &access.credentials {
        Some(folder) => {
            format!("check that the keys are valid and may use it (they are read from {})", folder.display())
        }
        None => "it was asked without keys: give some (secretRef, or a credentials folder with accessKeyId and secretAccessKey)"
            .to_owned(),
    };
    format!("check the bucket {bucket}, the path, the region and the endpoint; {keys}")
}

/// An error of the store as one of ours.
pub(crate) fn translate(asked: &str, error: object_store::Error, advice: &str) -> StorageError {
    let refused = |status: &str| StorageError::Refused {
        asked: asked.to_owned(),
        status: status.to_owned(),
        advice: advice.to_owned(),
    };
    match error {
        object_store::Error::NotFound { .. } => refused("404 Not Found"),
        object_store::Error::PermissionDenied { .. } => refused("403 Forbidden"),
        object_store::Error::Unauthenticated { .. } => refused("401 Unauthorized"),
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            StorageError::unexpected(asked, "the store cannot do this")
        }
        error => match refusal(&innermost(&error)) {
            Some(status) => refused(&status),
            None => StorageError::unavailable(asked, innermost(&error)),
        },
    }
}

/// The status in the text of an error, if no other try can change it: lists tell it in no other way.
fn refusal(text: &str) -> Option<String> {
    let status = text.split_once("status code: ")?.1.trim_end_matches(':');
    let number: u16 = status.get(..3)?.parse().ok()?;
    ((400..500).contains(&number) && ![408, 429].contains(&number)).then(|| status.to_owned())
}

/// The cause without the addresses around it, and without the XML that S3 answers with.
fn innermost(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.split(": <").next().unwrap_or_default().lines().next().unwrap_or_default().chars().take(300).collect()
}
