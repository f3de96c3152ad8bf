//! Against a real registry: an artifact of named files as ORAS pushes it, an image with an archive as modelcars are, behind a login or not.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::programs::{Server, registry};
use crate::support::{Files, access, checkpoint, content, credentials, get, needed, request};

/// Pushes, as far as the tests need it.
struct Pusher<'a> {
    server: &'a Server,
    client: reqwest::Client,
    login: bool,
}

impl<'a> Pusher<'a> {
    fn new(server: &'a Server, login: bool) -> Self {
        Self { server, client: reqwest::Client::new(), login }
    }

    fn request(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, url);
        if self.login { request.basic_auth("me", Some("hidden-password")) } else { request }
    }

    async fn blob(&self, content: &[u8]) -> Value {
        let digest = format!("sha256:{:x}", Sha256::digest(content));
        let url = format!("http://{}/v2/team/model/blobs/uploads/", self.server.address);
        let begun = self.request(reqwest::Method::POST, &url).send().await.unwrap().error_for_status().unwrap();
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let put = self.request(reqwest::Method::PUT, &format!("{location}{separator}digest={digest}"));
        put.header("content-type", "application/octet-stream")
            .body(content.to_vec())
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
        json!({"digest": digest, "size": content.len()})
    }

    /// Answers the digest of the manifest.
    async fn manifest(&self, tag: &str, layers: Vec<Value>) -> String {
        let mut config = self.blob(b"{}").await;
        config["mediaType"] = json!("application/vnd.oci.empty.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}).to_string();
        let digest = format!("sha256:{:x}", Sha256::digest(&manifest));
        let url = format!("http://{}/v2/team/model/manifests/{tag}", self.server.address);
        let put = self.request(reqwest::Method::PUT, &url).header("content-type", media_type).body(manifest);
        put.send().await.unwrap().error_for_status().unwrap();
        digest
    }

    async fn artifact(&self, tag: &str, files: &Files) -> String {
        let mut layers = Vec::new();
        for (name, content) in files {
            let mut layer = self.blob(content).await;
            layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
            layer["annotations"] = json!({"org.opencontainers.image.title": name});
            layers.push(layer);
        }
        self.manifest(tag, layers).await
    }

    async fn image(&self, tag: &str, archive: Vec<u8>) {
        let mut layer = self.blob(&archive).await;
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
        self.manifest(tag, vec![layer]).await;
    }
}

/// What a hostile or careless person packs besides the files.
fn archive(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "models/config.json", "/etc/passwd").unwrap();
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, format!("models/{name}"), content.as_slice()).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    let name = b"../../../outside.safetensors";
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_cksum();
    builder.append(&header, b"evil".as_slice()).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

fn uri(server: &Server, reference: &str) -> String {
    format!("oci://{}/team/model{reference}", server.address)
}

#[tokio::test]
async fn artifacts_and_images_of_a_public_registry() {
    let server = registry(false).await;
    let (pusher, files) = (Pusher::new(&server, false), checkpoint(200_000));
    let digest = pusher.artifact("v1", &files).await;
    pusher.image("car", archive(&files)).await;
    let cache = tempfile::tempdir().unwrap();
    let endpoint = format!("http://{}", server.address);
    for reference in [":v1".to_owned(), format!("@{digest}")] {
        let fetched = get(&request(&uri(&server, &reference), access(&endpoint, None), cache.path())).await.unwrap();
        assert_eq!(content(&fetched.folder), needed(&files));
        assert_eq!(fetched.revision, digest);
    }
    let car = get(&request(&uri(&server, ":car"), access(&endpoint, None), cache.path())).await.unwrap();
    let mut found = content(&car.folder);
    assert_eq!(found.remove("outside.safetensors").as_deref(), Some(b"evil".as_slice()), "inside, not outside");
    assert_eq!(found, needed(&files));
    assert!(!Path::new(cache.path()).join("../outside.safetensors").exists());
    let error = get(&request(&uri(&server, ":v2"), access(&endpoint, None), cache.path())).await.unwrap_err();
    assert!(error.to_string().contains("404") && !error.retry_helps(), "{error}");
}

#[tokio::test]
async fn a_private_registry_wants_a_login() {
    let server = registry(true).await;
    let (pusher, files) = (Pusher::new(&server, true), checkpoint(5000));
    pusher.artifact("latest", &files).await;
    let (endpoint, uri) = (format!("http://{}", server.address), uri(&server, ""));
    let config = json!({"auths": {&server.address: {"username": "me", "password": "hidden-password"}}}).to_string();
    for keys in [
        credentials(&[("username", "me"), ("password", "hidden-password\n")]),
        credentials(&[(".dockerconfigjson", &config)]),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let fetched = get(&request(&uri, access(&endpoint, Some(keys.path())), cache.path())).await.unwrap();
        assert_eq!(content(&fetched.folder), needed(&files));
    }
    let cache = tempfile::tempdir().unwrap();
    let wrong = credentials(&[("username", "me"), ("password", "hidden-wrong")]);
    for (keys, expected) in [(Some(wrong.path()), "the credentials are valid"), (None, "spec.model.secretRef")] {
        let error = get(&request(&uri, access(&endpoint, keys), cache.path())).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("401") && text.contains(expected) && !text.contains("hidden"), "{text}");
    }
}
