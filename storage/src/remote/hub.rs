//! A model hub: files of a repository at a commit. `GET /api/models/REPOSITORY/revision/REVISION` lists, `GET /REPOSITORY/resolve/COMMIT/FILE`
//! answers or redirects to another host, `X-Linked-Etag` is the sha256 of a large file (huggingface.co/docs/hub/api).

use http::header::{CONTENT_LENGTH, ETAG};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use url::Url;

use super::{Listing, Opened, RemoteFile};
use crate::access::Access;
use crate::error::{Result, StorageError};
use crate::files;
use crate::http::{Answer, Ask, Http, describe};
use crate::remote::token::bearer;

const PUBLIC: &str = "https://huggingface.co";

pub(crate) struct Hub {
    http: Http,
    endpoint: Url,
    repository: String,
    /// Of its GGUF files the one to take.
    file: Option<String>,
    revision: String,
    access: Access,
}

#[derive(Deserialize)]
struct Repository {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: Option<u64>,
}

impl Hub {
    pub(super) fn new(repository: &str, file: Option<&str>, revision: &str, access: &Access) -> Result<Self> {
        Ok(Self {
            http: Http::new(access)?,
            endpoint: access.endpoint_or(PUBLIC)?,
            repository: repository.to_owned(),
            file: file.map(str::to_owned),
            revision: revision.to_owned(),
            access: access.clone(),
        })
    }

    pub(super) async fn list(&self) -> Result<Listing> {
        let repository = self.repository().await?;
        let place = format!("hf://{}", self.repository);
        let siblings =
            files::checkpoint(&place, repository.siblings, self.file.as_deref(), |sibling| &sibling.rfilename)?;
        let mut listed = Vec::with_capacity(siblings.len());
        for sibling in siblings {
            listed.push(self.file(&repository.sha, sibling).await?);
        }
        Ok(Listing { revision: repository.sha, files: listed })
    }

    async fn repository(&self) -> Result<Repository> {
        let Self { repository, revision, .. } = self;
        let mut url = self.address(&["api", "models"], repository, &["revision", revision])?;
        url.set_query(Some("blobs=true"));
        let asked = describe(&Method::GET, &url);
        let answer = self.ask(Method::GET, &url, HeaderMap::new()).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal(&asked, &self.advice()));
        }
        let listed: Repository = serde_json::from_slice(&answer.bytes(&asked).await?)
            .map_err(|error| StorageError::unexpected(&asked, format!("no list of files ({error})")))?;
        if listed.sha.is_empty() || !listed.sha.chars().all(|character| character.is_ascii_alphanumeric()) {
            return Err(StorageError::unexpected(&asked, "the commit has no plain name"));
        }
        Ok(listed)
    }

    /// Size and hash, from the list where it has them, else from the head of the file itself.
    async fn file(&self, commit: &str, sibling: Sibling) -> Result<RemoteFile> {
        let Sibling { rfilename: name, size, lfs } = sibling;
        let listed_size = lfs.as_ref().and_then(|lfs| lfs.size).or(size);
        let sha256 = lfs.map(|lfs| lfs.sha256.trim_start_matches("sha256:").to_owned());
        let (size, sha256) = match listed_size {
            Some(size) => (size, sha256),
            None => self.head(commit, &name).await?,
        };
        Ok(RemoteFile { address: format!("{commit}/{name}"), name, size, sha256, tag: None, archive: None })
    }

    async fn head(&self, commit: &str, name: &str) -> Result<(u64, Option<String>)> {
        let url = self.address(&[], &self.repository, &["resolve", commit, name])?;
        let asked = describe(&Method::HEAD, &url);
        let answer = self.ask(Method::HEAD, &url, HeaderMap::new()).await?;
        // a redirect to a store, which says size and hash itself
        if !answer.status.is_success() && !answer.first.contains_key("x-linked-size") {
            return Err(answer.refusal(&asked, &self.advice()));
        }
        let first = |name: &str| answer.first.get(name).and_then(|value| value.to_str().ok());
        let size = first("x-linked-size").or_else(|| answer.header(CONTENT_LENGTH)).and_then(|size| size.parse().ok());
        let sha256 = first("x-linked-etag").map(|tag| tag.trim_matches('"')).filter(|tag| tag.len() == 64);
        match size {
            Some(size) => Ok((size, sha256.map(str::to_owned))),
            None => Err(StorageError::unexpected(&asked, "the answer does not say how large the file is")),
        }
    }

    pub(super) async fn open(&self, file: &RemoteFile, offset: u64, tag: Option<&str>) -> Result<Opened> {
        let (commit, name) = file.address.split_once('/').unwrap_or_default();
        let url = self.address(&[], &self.repository, &["resolve", commit, name])?;
        let asked = describe(&Method::GET, &url);
        let answer = self.ask(Method::GET, &url, range(offset, tag)).await?;
        if let Some(found) = answer.first.get("x-repo-commit").and_then(|value| value.to_str().ok())
            && found != commit
        {
            return Err(StorageError::unexpected(&asked, format!("the file of another commit ({found})")));
        }
        opened(answer, &asked, offset, tag, &self.advice())
    }

    async fn ask(&self, method: Method, url: &Url, headers: HeaderMap) -> Result<Answer> {
        let authorization = self.access.token()?.map(|token| bearer(&token)).transpose()?;
        self.http.ask(Ask { method, url, headers, authorization }).await
    }

    fn address(&self, before: &[&str], repository: &str, after: &[&str]) -> Result<Url> {
        let mut url = self.endpoint.clone();
        {
            let mut path = url
                .path_segments_mut()
                .map_err(|()| StorageError::Configuration("the endpoint is not an address".to_owned()))?;
            path.pop_if_empty().extend(before).extend(repository.split('/')).extend(after);
        }
        Ok(url)
    }

    fn advice(&self) -> String {
        let Self { repository, revision, .. } = self;
        let token = match &self.access.credentials {
            Some(folder) => format!(
                "check that the token is valid, may read it, and that its license was accepted (it is read from {})",
                folder.display()
            ),
            None => {
                "if it is private or gated, give a token (spec.model.secretRef, or --credentials with a file `token`)"
                    .to_owned()
            }
        };
        format!("check that {repository} exists and has the revision {revision}; {token}")
    }
}

/// `Range` with the condition that the file is still the same.
pub(super) fn range(offset: u64, tag: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if offset > 0 {
        if let Ok(value) = HeaderValue::from_str(&format!("bytes={offset}-")) {
            headers.insert(http::header::RANGE, value);
        }
        if let Some(value) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(http::header::IF_RANGE, value);
        }
    }
    headers
}

/// The bytes of an answer to [`range`].
pub(super) fn opened(answer: Answer, asked: &str, offset: u64, tag: Option<&str>, advice: &str) -> Result<Opened> {
    let found = answer.header(ETAG).filter(|tag| !tag.starts_with("W/")).map(str::to_owned);
    let offset = match answer.status.as_u16() {
        200 => 0,
        206 => {
            let start = answer.header(http::header::CONTENT_RANGE).and_then(start_of_range);
            let is_same = tag.is_none() || found.is_none() || tag == found.as_deref();
            if start != Some(offset) || !is_same {
                return Err(StorageError::unexpected(
                    asked,
                    "another part of the file, or of another file, than was asked for",
                ));
            }
            offset
        }
        _ => return Err(answer.refusal(asked, advice)),
    };
    Ok(Opened { offset, tag: found, bytes: answer.stream() })
}

/// Of `bytes 5-9/10`.
fn start_of_range(header: &str) -> Option<u64> {
    header.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}
