//! The URIs of remote sources, parsed. Nothing is looked up here.

use std::fmt;

use crate::files::GGUF;

/// A place outside of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `hf://ORG/NAME[/FILE.gguf][@REVISION]`: a repository of a model hub.
    Hub {
        /// `ORG/NAME`, or `NAME` for the few old ones without an organization.
        repository: String,
        /// One of its GGUF files; absent: the checkpoint that is there.
        file: Option<String>,
        /// A branch, a tag or a commit; absent: `main`.
        revision: Option<String>,
    },
    /// `s3://BUCKET/KEY`: a folder, an object, or objects by a pattern with `*` in the last part.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without slashes at either end.
        key: String,
    },
    /// `oci://REGISTRY/REPOSITORY[:TAG|@DIGEST]`: an artifact or image whose layers are a checkpoint.
    Oci {
        /// Host and port.
        registry: String,
        /// The path below it.
        repository: String,
        /// A tag, or a digest with its `sha256:`; absent: `latest`.
        reference: Option<String>,
    },
}

/// Why a URI is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is no place to download from: write hf://ORG/NAME[/FILE.gguf][@REVISION], s3://BUCKET/PREFIX or \
     oci://REGISTRY/REPOSITORY[:TAG|@sha256:…], with letters, digits and ._~@+=:/- and without '..'"
)]
pub struct SourceError {
    /// The URI as it was written.
    pub found: String,
}

/// Whether the text is a URI of a remote source (and not a path), be it valid or not.
pub fn is_remote(text: &str) -> bool {
    ["hf://", "s3://", "oci://"].iter().any(|scheme| text.starts_with(scheme))
}

impl Source {
    /// Parses a URI.
    pub fn parse(uri: &str) -> Result<Self, SourceError> {
        let refused = || SourceError { found: uri.to_owned() };
        let (scheme, rest) = uri.split_once("://").ok_or_else(refused)?;
        if rest.contains("..") || rest.contains("//") || !rest.chars().all(is_uri_character) {
            return Err(refused());
        }
        let source = match scheme {
            "hf" => hub(rest),
            "s3" => s3(rest),
            "oci" => oci(rest),
            _ => None,
        };
        source.ok_or_else(refused)
    }

    /// Whether what it names can never change: a full commit, or a digest.
    pub fn is_immutable(&self) -> bool {
        match self {
            Self::Hub { revision, .. } => revision.as_deref().is_some_and(is_commit),
            Self::S3 { .. } => false,
            Self::Oci { reference, .. } => reference.as_deref().is_some_and(|reference| reference.contains(':')),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository, file, revision } => {
                write!(formatter, "hf://{repository}")?;
                file.iter().try_for_each(|file| write!(formatter, "/{file}"))?;
                revision.iter().try_for_each(|revision| write!(formatter, "@{revision}"))
            }
            Self::S3 { bucket, key } => write!(formatter, "s3://{bucket}/{key}"),
            Self::Oci { registry, repository, reference: None } => write!(formatter, "oci://{registry}/{repository}"),
            Self::Oci { registry, repository, reference: Some(reference) } => {
                let separator = if reference.contains(':') { '@' } else { ':' };
                write!(formatter, "oci://{registry}/{repository}{separator}{reference}")
            }
        }
    }
}

fn hub(rest: &str) -> Option<Source> {
    let (repository, revision) = match rest.split_once('@') {
        Some((repository, revision)) if !revision.is_empty() && !revision.contains('@') => (repository, Some(revision)),
        Some(_) => return None,
        None => (rest, None),
    };
    let (repository, file) = match repository.rsplit_once('/') {
        Some((before, file)) if before.contains('/') && file.ends_with(GGUF) => (before, Some(file)),
        _ => (repository, None),
    };
    let parts: Vec<&str> = repository.split('/').collect();
    let is_part = |part: &&str| part.starts_with(|first: char| first.is_ascii_alphanumeric()) && !part.contains(':');
    (parts.len() <= 2 && parts.iter().chain(&file).all(is_part)).then(|| Source::Hub {
        repository: repository.to_owned(),
        file: file.map(str::to_owned),
        revision: revision.map(str::to_owned),
    })
}

fn s3(rest: &str) -> Option<Source> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let key = key.trim_end_matches('/');
    let is_bucket_character =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || ".-".contains(character);
    let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_valid = (3..=63).contains(&bucket.len()) && bucket.chars().all(is_bucket_character) && !folder.contains('*');
    is_valid.then(|| Source::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
}

fn oci(rest: &str) -> Option<Source> {
    let (registry, path) = rest.split_once('/')?;
    let (repository, reference) = match path.split_once('@') {
        Some((repository, digest)) if is_digest(digest) => (repository, Some(digest)),
        Some(_) => return None,
        None => match path.rsplit_once(':') {
            Some((repository, tag)) if is_tag(tag) => (repository, Some(tag)),
            Some(_) => return None,
            None => (path, None),
        },
    };
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    let is_valid = !registry.is_empty() && !registry.contains('@') && repository.split('/').all(is_part);
    is_valid.then(|| Source::Oci {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        reference: reference.map(str::to_owned),
    })
}

fn is_uri_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._~@+=:/*-".contains(character)
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.chars().all(|character| character.is_ascii_hexdigit())
}

fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.chars().all(|character| character.is_ascii_digit() || ('a'..='f').contains(&character))
}

fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed_and_printed_as_they_were_written() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (uri, immutable) in [
            ("hf://org/name".to_owned(), false),
            ("hf://gpt2".to_owned(), false),
            ("hf://org/na.me-1@refs/pr/1".to_owned(), false),
            ("hf://org/name/model.Q4_1.gguf".to_owned(), false),
            ("hf://org/name/model.gguf@v1".to_owned(), false),
            ("s3://bucket/models/model.gguf".to_owned(), false),
            (format!("hf://org/name@{}", "0".repeat(40)), true),
            ("s3://bucket/".to_owned(), false),
            ("s3://buck.et/models/text2sql".to_owned(), false),
            ("s3://bucket/data/day=1/*.jsonl.gz".to_owned(), false),
            ("oci://registry.example:5000/team/model".to_owned(), false),
            ("oci://registry.example/team/model:v1.2".to_owned(), false),
            (format!("oci://127.0.0.1:5000/model@{digest}"), true),
        ] {
            let source = Source::parse(&uri).unwrap();
            assert_eq!((source.to_string(), source.is_immutable()), (uri.clone(), immutable));
            assert!(is_remote(&uri));
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_is_allowed() {
        for uri in [
            "",
            "models/target",
            "https://example.org/x",
            "hf://",
            "hf:///name",
            "hf://a/b/c",
            "hf://a/b/c/d.gguf",
            "hf://a/b/.gguf",
            "hf://a/b@",
            "hf://a/../b",
            "hf://a b/c",
            "s3://b",
            "s3://UPPER/x",
            "s3://bucket/*/x",
            "s3://bucket/../x",
            "oci://registry",
            "oci://r/UP",
            "oci://r/a:",
            "oci://r/a@sha256:12",
            "oci://user@r/a",
            "s3://bucket//x",
            "hf://a/b?c",
        ] {
            let error = Source::parse(uri).unwrap_err().to_string();
            assert!(error.contains("hf://ORG/NAME[/FILE.gguf]"), "{uri}: {error}");
        }
    }
}
