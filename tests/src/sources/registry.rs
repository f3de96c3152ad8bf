//! A real registry, and what puts checkpoints into it as `oras push` does.

use std::{fs, net::Ipv4Addr};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Files, Server};
use crate::Error;

/// Who may use a registry with a login.
pub const USERNAME: &str = "me";
/// With what.
pub const PASSWORD: &str = "hidden-password";
/// The bcrypt of it.
const USERS: &str = "me:$2y$05$abcdefghijklmnopqrstuu4hGQvs0vDCt67WHag1MU8WWi6/aHllq\n";

/// A registry: with a login, or for everybody.
pub async fn registry(address: Ipv4Addr, with_login: bool) -> Result<Server, Error> {
    Server::start("registry", address, |address, folder| {
        let (users, config, data) = (folder.join("users"), folder.join("config.yml"), folder.join("data"));
        fs::write(&users, USERS)?;
        let login = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{}",
            data.display(),
            if with_login { &login } else { "" },
        );
        fs::write(&config, text)?;
        Ok(vec!["serve".to_owned(), config.display().to_string()])
    })
    .await
}

/// Pushes to `team/model`, as far as tests need it.
#[derive(Debug)]
pub struct Pusher<'a> {
    server: &'a Server,
    client: reqwest::Client,
    login: bool,
}

impl<'a> Pusher<'a> {
    /// To a registry, with its login or without.
    pub fn new(server: &'a Server, login: bool) -> Self {
        Self { server, client: reqwest::Client::new(), login }
    }

    fn request(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, url);
        if self.login { request.basic_auth(USERNAME, Some(PASSWORD)) } else { request }
    }

    /// Answers its descriptor.
    async fn blob(&self, content: &[u8]) -> Value {
        let digest = format!("sha256:{:x}", Sha256::digest(content));
        let url = format!("http://{}/v2/team/model/blobs/uploads/", self.server.address());
        let begun = self.request(reqwest::Method::POST, &url).send().await.unwrap().error_for_status().unwrap();
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let put = self.request(reqwest::Method::PUT, &format!("{location}{separator}digest={digest}"));
        let put = put.header("content-type", "application/octet-stream").body(content.to_vec());
        put.send().await.unwrap().error_for_status().unwrap();
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
        let url = format!("http://{}/v2/team/model/manifests/{tag}", self.server.address());
        let put = self.request(reqwest::Method::PUT, &url).header("content-type", media_type).body(manifest);
        put.send().await.unwrap().error_for_status().unwrap();
        digest
    }

    /// One layer a file, as ORAS pushes them. Answers the digest of the manifest.
    pub async fn artifact(&self, tag: &str, files: &Files) -> String {
        let mut layers = Vec::new();
        for (name, content) in files {
            let mut layer = self.blob(content).await;
            layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
            layer["annotations"] = json!({"org.opencontainers.image.title": name});
            layers.push(layer);
        }
        self.manifest(tag, layers).await
    }

    /// One gzipped archive as the only layer, as in an image.
    pub async fn image(&self, tag: &str, archive: Vec<u8>) {
        let mut layer = self.blob(&archive).await;
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
        self.manifest(tag, vec![layer]).await;
    }
}
