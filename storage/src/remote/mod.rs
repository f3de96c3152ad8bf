//! The three kinds of sources behind one door: what is there, and the bytes of a file from some point on.

mod hub;
mod oci;
mod s3;
mod token;

use crate::access::Access;
use crate::error::Result;
use crate::http::Bytestream;
use crate::source::Source;

pub(crate) use s3::{advice as s3_advice, store as s3_store, translate as s3_error};

/// What a source holds, at one fixed state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// A commit, a digest, or a hash of names, sizes and tags.
    pub(crate) revision: String,
    /// What is to be downloaded.
    pub(crate) files: Vec<RemoteFile>,
}

/// A file of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// As it is called in the cache.
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Hexadecimal, where the source says it.
    pub(crate) sha256: Option<String>,
    /// Where the source has it: a path, a key, a digest.
    pub(crate) address: String,
    /// S3's tag of this state of the object.
    pub(crate) tag: Option<String>,
    /// A tar archive, whose members are the files.
    pub(crate) archive: Option<Compression>,
}

/// How an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
}

/// The bytes of a file.
pub(crate) struct Opened {
    /// Where they start: where they were asked to, or at 0 if the file is another one now.
    pub(crate) offset: u64,
    /// A strong tag of this state of the file.
    pub(crate) tag: Option<String>,
    pub(crate) bytes: Bytestream,
}

/// What is wanted of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The files of a checkpoint.
    Checkpoint,
    /// Every file that the URI matches.
    Files,
}

/// A source that can be asked.
pub(crate) enum Remote {
    Hub(hub::Hub),
    S3(s3::Bucket),
    Oci(oci::Registry),
}

impl Remote {
    pub(crate) fn new(source: &Source, access: &Access) -> Result<Self> {
        Ok(match source {
            Source::Hub { repository, file, revision } => {
                let revision = revision.as_deref().unwrap_or("main");
                Self::Hub(hub::Hub::new(repository, file.as_deref(), revision, access)?)
            }
            Source::S3 { bucket, key } => Self::S3(s3::Bucket::new(bucket, key, access)?),
            Source::Oci { registry, repository, reference } => {
                Self::Oci(oci::Registry::new(registry, repository, reference.as_deref().unwrap_or("latest"), access)?)
            }
        })
    }

    /// What is there. One try.
    pub(crate) async fn list(&self, wanted: Wanted) -> Result<Listing> {
        match self {
            Self::Hub(hub) => hub.list().await,
            Self::S3(bucket) => bucket.list(wanted).await,
            Self::Oci(registry) => registry.list().await,
        }
    }

    /// The bytes of a file from `offset` on, if it is still the one with that tag; from 0 otherwise. One try.
    pub(crate) async fn open(&self, file: &RemoteFile, offset: u64, tag: Option<&str>) -> Result<Opened> {
        match self {
            Self::Hub(hub) => hub.open(file, offset, tag).await,
            Self::S3(bucket) => bucket.open(file, offset).await,
            Self::Oci(registry) => registry.open(file, offset, tag).await,
        }
    }
}
