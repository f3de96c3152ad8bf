//! How a source is reached: endpoint, credentials, certificates, proxy. Credentials are files, read anew at every use, so that a
//! rotated token is picked up; nothing secret is ever an argument, a variable or a log line.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;

use crate::error::{Result, StorageError};

/// How a source is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Instead of the public one: `https://HOST[:PORT]`.
    pub endpoint: Option<String>,
    /// Of S3.
    pub region: Option<String>,
    /// A folder with one file for each key: `token`; `accessKeyId`, `secretAccessKey`, `sessionToken`; `username` and `password`, or
    /// `.dockerconfigjson`.
    pub credentials: Option<PathBuf>,
    /// PEM certificates that are trusted besides the system's.
    pub ca_bundle: Option<PathBuf>,
    /// `http://HOST:PORT`, for every request.
    pub proxy: Option<String>,
}

/// The five flags of an [`Access`] with a prefix: a program may have several.
macro_rules! access_arguments {
    ($(#[$documentation:meta])* $name:ident, $prefix:literal) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct $name {
            /// Where the hub, S3 or the registry answers, instead of the public address.
            #[arg(id = concat!($prefix, "endpoint"), long = concat!($prefix, "endpoint"), global = true, value_name = "URL")]
            endpoint: Option<String>,
            /// Region of S3 [default: us-east-1].
            #[arg(id = concat!($prefix, "region"), long = concat!($prefix, "region"), global = true, value_name = "NAME")]
            region: Option<String>,
            /// A folder with credentials, one file each: token (hub); accessKeyId, secretAccessKey, sessionToken (S3); username and
            /// password, or .dockerconfigjson (registry). Read at every use.
            #[arg(id = concat!($prefix, "credentials"), long = concat!($prefix, "credentials"), global = true, value_name = "DIR")]
            credentials: Option<PathBuf>,
            /// PEM certificates that are trusted besides the system's.
            #[arg(id = concat!($prefix, "ca-bundle"), long = concat!($prefix, "ca-bundle"), global = true, value_name = "FILE")]
            ca_bundle: Option<PathBuf>,
            /// An HTTP proxy for every request.
            #[arg(id = concat!($prefix, "proxy"), long = concat!($prefix, "proxy"), global = true, value_name = "URL")]
            proxy: Option<String>,
        }

        impl $name {
            /// The values.
            pub fn access(&self) -> Access {
                Access {
                    endpoint: self.endpoint.clone(),
                    region: self.region.clone(),
                    credentials: self.credentials.clone(),
                    ca_bundle: self.ca_bundle.clone(),
                    proxy: self.proxy.clone(),
                }
            }
        }
    };
}

access_arguments!(
    /// Access to the model: `--endpoint`, `--region`, `--credentials`, `--ca-bundle`, `--proxy`.
    ModelAccess,
    ""
);
access_arguments!(
    /// Access to the data: `--dataset-endpoint`, …
    DatasetAccess,
    "dataset-"
);
access_arguments!(
    /// Access to the output: `--output-endpoint`, …
    OutputAccess,
    "output-"
);

/// A text that is never printed.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// For the one place that sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Keys of S3.
pub(crate) struct S3Keys {
    pub(crate) id: Secret,
    pub(crate) secret: Secret,
    pub(crate) session: Option<Secret>,
}

/// Who asks a registry.
pub(crate) struct Login {
    pub(crate) username: Secret,
    pub(crate) password: Secret,
}

impl Access {
    /// The endpoint, or that of the source.
    pub(crate) fn endpoint_or(&self, default: &str) -> Result<Url> {
        let text = self.endpoint.as_deref().unwrap_or(default);
        http_url("endpoint", text)
    }

    /// The proxy, if there is one.
    pub(crate) fn proxy_url(&self) -> Result<Option<Url>> {
        let proxy = self.proxy.as_deref().map(|text| http_url("proxy", text)).transpose()?;
        match proxy {
            Some(url) if url.scheme() != "http" => Err(StorageError::Configuration(format!(
                "the proxy {url} is not spoken to over http; write http://HOST:PORT (https targets are tunneled through it)"
            ))),
            proxy => Ok(proxy),
        }
    }

    /// The token of a hub.
    pub(crate) fn token(&self) -> Result<Option<Secret>> {
        let Some(folder) = &self.credentials else { return Ok(None) };
        required(folder, "token").map(Some)
    }

    /// The keys of S3.
    pub(crate) fn s3_keys(&self) -> Result<Option<S3Keys>> {
        let Some(folder) = &self.credentials else { return Ok(None) };
        Ok(Some(S3Keys {
            id: required(folder, "accessKeyId")?,
            secret: required(folder, "secretAccessKey")?,
            session: read_key(folder, "sessionToken")?,
        }))
    }

    /// Name and password for a registry.
    pub(crate) fn login(&self, registry: &str) -> Result<Option<Login>> {
        let Some(folder) = &self.credentials else { return Ok(None) };
        if let Some(config) = read_key(folder, ".dockerconfigjson")? {
            return docker_login(folder, &config, registry).map(Some);
        }
        match (read_key(folder, "username")?, read_key(folder, "password")?) {
            (Some(username), Some(password)) => Ok(Some(Login { username, password })),
            _ => Err(unusable(folder, "a registry needs the key .dockerconfigjson, or username and password")),
        }
    }
}

fn http_url(what: &str, text: &str) -> Result<Url> {
    let refused = || {
        StorageError::Configuration(format!(
            "the {what} is not an address; write https://HOST[:PORT] or http://HOST[:PORT], without a user name or query"
        ))
    };
    let url = Url::parse(text).map_err(|_| refused())?;
    let is_plain = ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none();
    if is_plain { Ok(url) } else { Err(refused()) }
}

/// The content of a key without the line break that editors add; `None` where the folder has no such key.
fn read_key(folder: &Path, key: &str) -> Result<Option<Secret>> {
    match fs::read_to_string(folder.join(key)) {
        Ok(text) if text.trim().is_empty() => Err(unusable(folder, &format!("the key {key} is empty"))),
        Ok(text) => Ok(Some(Secret(text.trim().to_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(folder, &format!("the key {key} cannot be read ({error})"))),
    }
}

fn required(folder: &Path, key: &str) -> Result<Secret> {
    read_key(folder, key)?
        .ok_or_else(|| unusable(folder, &format!("the key {key} is missing; add it to the Secret or folder")))
}

fn unusable(folder: &Path, problem: &str) -> StorageError {
    StorageError::Credentials { folder: folder.to_owned(), problem: problem.to_owned() }
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: std::collections::BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

fn docker_login(folder: &Path, config: &Secret, registry: &str) -> Result<Login> {
    // the text of a parse error may quote the file
    let config: DockerConfig = serde_json::from_str(config.reveal())
        .map_err(|_| unusable(folder, "the key .dockerconfigjson is not the JSON of `docker login`"))?;
    let host = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next().unwrap_or_default().to_owned()
    };
    let entry = config.auths.iter().find(|(name, _)| host(name) == registry);
    let (_, entry) = entry.ok_or_else(|| {
        unusable(folder, &format!("the key .dockerconfigjson has no entry for the registry {registry}"))
    })?;
    if let (Some(username), Some(password)) = (&entry.username, &entry.password) {
        return Ok(Login { username: Secret(username.clone()), password: Secret(password.clone()) });
    }
    let decoded = entry.auth.as_ref().and_then(|auth| STANDARD.decode(auth).ok());
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((username, password)) => {
            Ok(Login { username: Secret(username.to_owned()), password: Secret(password.to_owned()) })
        }
        None => Err(unusable(
            folder,
            &format!("the entry for {registry} in .dockerconfigjson has neither `auth` nor `username` and `password`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(keys: &[(&str, &str)]) -> (tempfile::TempDir, Access) {
        let folder = tempfile::tempdir().unwrap();
        for (key, content) in keys {
            fs::write(folder.path().join(key), content).unwrap();
        }
        let access = Access { credentials: Some(folder.path().to_owned()), ..Access::default() };
        (folder, access)
    }

    #[test]
    fn a_rotated_token_is_read_at_the_next_use() {
        let (folder, access) = folder(&[("token", "first\n")]);
        assert_eq!(access.token().unwrap().unwrap().reveal(), "first");
        fs::write(folder.path().join("token"), "second").unwrap();
        assert_eq!(access.token().unwrap().unwrap().reveal(), "second");
        assert!(Access::default().token().unwrap().is_none());
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_secret_is() {
        let (_folder, access) = folder(&[("accessKeyId", "hidden"), ("password", "hidden"), ("token", " \n")]);
        for error in [access.token().err(), access.s3_keys().err(), access.login("r").err()] {
            let text = error.unwrap().to_string();
            assert!(["token", "secretAccessKey", "username"].iter().any(|key| text.contains(key)), "{text}");
            assert!(!text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn docker_config_entries_are_found_by_host() {
        let auth = STANDARD.encode("me:pass:word");
        let config = format!(
            r#"{{"auths": {{"https://r.example/v1/": {{"auth": "{auth}"}}, "b:5000": {{"username": "u", "password": "p"}}}}}}"#
        );
        let (_folder, access) = folder(&[(".dockerconfigjson", &config)]);
        let login = access.login("r.example").unwrap().unwrap();
        assert_eq!((login.username.reveal(), login.password.reveal()), ("me", "pass:word"));
        assert_eq!(access.login("b:5000").unwrap().unwrap().username.reveal(), "u");
        assert!(access.login("other").err().unwrap().to_string().contains("no entry for the registry other"));
    }

    #[test]
    fn addresses_without_secrets_only() {
        for wrong in ["", "minio:9000", "ftp://h", "http://user:pass@h", "http://h/?token=x"] {
            let access = Access { endpoint: Some(wrong.to_owned()), ..Access::default() };
            let error = access.endpoint_or("https://d").unwrap_err().to_string();
            assert!(error.contains("https://HOST") && !error.contains("pass@"), "{error}");
        }
        assert_eq!(Access::default().endpoint_or("https://d").unwrap().as_str(), "https://d/");
    }
}
