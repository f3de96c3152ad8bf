//! An OCI registry: an artifact or image whose layers are a checkpoint (distribution-spec v1.1, image-spec v1.1).
//!
//! Layers that are files carry their name (`org.opencontainers.image.title` as ORAS writes it, `org.cncf.model.filepath` as model packs do);
//! layers that are archives (those of images with a model in them) are unpacked, and only the files of a checkpoint leave them.

use std::collections::BTreeMap;

use http::header::{ACCEPT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use url::Url;

use super::hub::{opened, range};
use super::token::Challenge;
use super::{Compression, Listing, Opened, RemoteFile};
use crate::access::Access;
use crate::error::{Result, StorageError};
use crate::files;
use crate::http::{Answer, Ask, Http, describe};

const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
const TITLES: [&str; 2] = ["org.opencontainers.image.title", "org.cncf.model.filepath"];
/// ORAS marks folders, which it packs, by this annotation.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// Media types that say by themselves whether a layer is packed.
const MODEL_TYPE: &str = "vnd.cncf.model.";

pub(crate) struct Registry {
    http: Http,
    endpoint: Url,
    host: String,
    repository: String,
    reference: String,
    access: Access,
    /// What the last challenge was answered with; asked anew when it is refused.
    authorization: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// Of an index.
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Value>,
}

/// What a layer is.
#[derive(Debug, PartialEq, Eq)]
enum Layer {
    File(String),
    Archive(Compression),
    /// Nothing that a checkpoint needs.
    Other,
}

impl Registry {
    pub(super) fn new(registry: &str, repository: &str, reference: &str, access: &Access) -> Result<Self> {
        // the name under which Docker's hub is known is not where it answers
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        Ok(Self {
            http: Http::new(access)?,
            endpoint: access.endpoint_or(&format!("https://{host}"))?,
            host: registry.to_owned(),
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            access: access.clone(),
            authorization: Mutex::new(None),
        })
    }

    pub(super) async fn list(&self) -> Result<Listing> {
        let (mut revision, mut manifest) = self.manifest(&self.reference).await?;
        if !manifest.manifests.is_empty() {
            let chosen = manifest.manifests.iter().find(|descriptor| is_for_this_machine(descriptor));
            let chosen = chosen.or(manifest.manifests.first()).map(|descriptor| descriptor.digest.clone());
            (revision, manifest) = self.manifest(&chosen.unwrap_or_default()).await?;
        }
        let place = format!("oci://{}/{}", self.host, self.repository);
        let found = manifest.layers.len();
        let mut listed = Vec::new();
        for (index, layer) in manifest.layers.into_iter().enumerate() {
            let kind =
                layer_kind(&layer).map_err(|problem| StorageError::Unusable { place: place.clone(), problem })?;
            let (name, archive) = match kind {
                Layer::File(name) => (name, None),
                Layer::Archive(compression) => (format!("layer-{index}.tar"), Some(compression)),
                Layer::Other => continue,
            };
            let sha256 = layer.digest.strip_prefix("sha256:").map(str::to_owned);
            listed.push(RemoteFile { name, size: layer.size, sha256, address: layer.digest, tag: None, archive });
        }
        let listed = files_and_archives(listed);
        if listed.iter().all(|file| file.archive.is_none()) {
            let names: Vec<&str> = listed.iter().map(|file| file.name.as_str()).collect();
            files::check_checkpoint(&place, found, &names)?;
        }
        Ok(Listing { revision, files: listed })
    }

    /// A manifest with its digest.
    async fn manifest(&self, reference: &str) -> Result<(String, Manifest)> {
        let url = self.address(&["manifests", reference])?;
        let asked = describe(&Method::GET, &url);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
        let answer = self.ask(&url, headers).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal(&asked, &self.advice()));
        }
        let bytes = answer.bytes(&asked).await?;
        let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
        if reference.contains(':') && reference != digest {
            return Err(StorageError::unexpected(&asked, format!("a manifest with the digest {digest}")));
        }
        let manifest = serde_json::from_slice(&bytes)
            .map_err(|error| StorageError::unexpected(&asked, format!("no manifest ({error})")))?;
        Ok((digest, manifest))
    }

    pub(super) async fn open(&self, file: &RemoteFile, offset: u64, tag: Option<&str>) -> Result<Opened> {
        let url = self.address(&["blobs", &file.address])?;
        let asked = describe(&Method::GET, &url);
        let answer = self.ask(&url, range(offset, tag)).await?;
        opened(answer, &asked, offset, tag, &self.advice())
    }

    /// Asks; where the registry wants to know who asks, answers its challenge and asks once more.
    async fn ask(&self, url: &Url, headers: HeaderMap) -> Result<Answer> {
        let known = self.authorization.lock().await.clone();
        let ask = |authorization| Ask { method: Method::GET, url, headers: headers.clone(), authorization };
        let answer = self.http.ask(ask(known)).await?;
        if answer.status.as_u16() != 401 {
            return Ok(answer);
        }
        let challenge = answer.header(WWW_AUTHENTICATE).and_then(Challenge::parse);
        let Some(challenge) = challenge else { return Ok(answer) };
        let login = self.access.login(&self.host)?;
        let fresh = challenge.answer(&self.http, login.as_ref(), &self.advice()).await?;
        if fresh.is_none() {
            return Ok(answer);
        }
        self.authorization.lock().await.clone_from(&fresh);
        self.http.ask(ask(fresh)).await
    }

    fn address(&self, after: &[&str]) -> Result<Url> {
        let mut url = self.endpoint.clone();
        {
            let mut path = url
                .path_segments_mut()
                .map_err(|()| StorageError::Configuration("the endpoint is not an address".to_owned()))?;
            path.pop_if_empty().push("v2").extend(self.repository.split('/')).extend(after);
        }
        Ok(url)
    }

    fn advice(&self) -> String {
        let Self { repository, reference, host, .. } = self;
        let login = match &self.access.credentials {
            Some(folder) => {
                format!("check that the credentials are valid and may pull it (they are read from {})", folder.display())
            }
            None => "if it is private, give credentials (spec.model.secretRef, or --credentials: .dockerconfigjson, or username and \
                     password)"
                .to_owned(),
        };
        format!("check that {repository} with {reference} exists in {host}; {login}")
    }
}

/// Plain files as a checkpoint needs them; archives as they are.
fn files_and_archives(listed: Vec<RemoteFile>) -> Vec<RemoteFile> {
    let (archives, plain): (Vec<_>, Vec<_>) = listed.into_iter().partition(|file| file.archive.is_some());
    let mut kept = files::of_checkpoint(plain, |file| &file.name);
    kept.extend(archives);
    kept
}

fn is_for_this_machine(descriptor: &Descriptor) -> bool {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    descriptor.platform.as_ref().is_some_and(|platform| platform["architecture"] == architecture)
}

fn layer_kind(layer: &Descriptor) -> std::result::Result<Layer, String> {
    let title = TITLES.iter().find_map(|key| layer.annotations.get(*key));
    let name = title.map(|title| title.rsplit('/').next().unwrap_or_default());
    if let Some(name) = name.filter(|name| files::belongs_to_checkpoint(name)) {
        // ORAS calls plain files `tar` too, so the name decides
        return Ok(Layer::File(name.to_owned()));
    }
    let media_type = layer.media_type.as_str();
    let is_folder =
        layer.annotations.get(UNPACK).is_some_and(|unpack| unpack == "true") || media_type.contains(MODEL_TYPE);
    if !media_type.contains("tar") || (title.is_some() && !is_folder) {
        return Ok(Layer::Other);
    }
    if media_type.ends_with("zstd") {
        return Err(
            "has a layer that is packed with zstd, which cannot be read yet; push it with gzip or unpacked".to_owned()
        );
    }
    let is_packed = media_type.ends_with("gzip");
    Ok(Layer::Archive(if is_packed { Compression::Gzip } else { Compression::None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_before_media_types() {
        let kind = |media_type: &str, title: Option<&str>| {
            let annotations = title.map(|title| (TITLES[0].to_owned(), title.to_owned())).into_iter().collect();
            let digest = String::new();
            layer_kind(&Descriptor { media_type: media_type.to_owned(), digest, size: 1, annotations, platform: None })
        };
        let tar = "application/vnd.oci.image.layer.v1.tar";
        for (media_type, title, expected) in [
            (tar, Some("config.json"), Layer::File("config.json".to_owned())),
            (
                "application/vnd.cncf.model.weight.v1.raw",
                Some("a/model.safetensors"),
                Layer::File("model.safetensors".to_owned()),
            ),
            ("text/markdown", Some("README.md"), Layer::Other),
            (tar, Some("README.md"), Layer::Other),
            ("application/vnd.cncf.model.weight.v1.tar", Some("models"), Layer::Archive(Compression::None)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", None, Layer::Archive(Compression::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", None, Layer::Archive(Compression::Gzip)),
        ] {
            assert_eq!(kind(media_type, title).unwrap(), expected, "{media_type} {title:?}");
        }
        assert!(kind("application/vnd.oci.image.layer.v1.tar+zstd", None).unwrap_err().contains("zstd"));
    }
}
