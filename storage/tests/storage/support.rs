//! Checkpoints of a few files, requests with short patience, and what is in a folder.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use cllm_storage::{Access, Fetched, Freshness, Meter, Request, RetryPolicy, Source, StorageError, fetch};
use cllm_tests::sources::{self, Files, Server};

/// The real S3 server on loopback.
pub(crate) async fn s3() -> Server {
    sources::s3(Ipv4Addr::LOCALHOST).await.unwrap()
}

/// The real registry on loopback.
pub(crate) async fn registry(with_login: bool) -> Server {
    sources::registry(Ipv4Addr::LOCALHOST, with_login).await.unwrap()
}

/// Bytes that do not repeat within a file.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What every checkpoint has, and what nobody should fetch.
pub(crate) fn checkpoint(weights: usize) -> Files {
    [
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", noise(3000, 1)),
        ("tokenizer_config.json", b"{\"a\": 1}".to_vec()),
        ("model.safetensors", noise(weights, 2)),
        ("pytorch_model.bin", noise(100, 3)),
        ("README.md", b"# model".to_vec()),
    ]
    .map(|(name, content)| (name.to_owned(), content))
    .into()
}

/// Those that belong into the cache.
pub(crate) fn needed(files: &Files) -> Files {
    let others = ["pytorch_model.bin", "README.md"];
    files.clone().into_iter().filter(|(name, _)| !others.contains(&name.as_str())).collect()
}

/// The visible files of a folder.
pub(crate) fn content(folder: &Path) -> Files {
    let visible = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let visible = visible.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    visible.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// Tries often and soon.
pub(crate) fn impatient() -> RetryPolicy {
    RetryPolicy {
        attempts: 4,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        silence: Duration::from_secs(20),
    }
}

/// A request for a checkpoint.
pub(crate) fn request(uri: &str, access: Access, cache: &Path) -> Request {
    let source = Source::parse(uri).unwrap();
    Request { retries: impatient(), ..Request::checkpoint(source, access, cache.to_owned(), Freshness::Latest) }
}

/// Fetches it.
pub(crate) async fn get(request: &Request) -> Result<Fetched, StorageError> {
    fetch(request, &Meter::default()).await
}

/// At an address of this machine, with credentials from a folder.
pub(crate) fn access(endpoint: &str, credentials: Option<&Path>) -> Access {
    Access { endpoint: Some(endpoint.to_owned()), credentials: credentials.map(Path::to_owned), ..Access::default() }
}

/// A folder with one file for each key.
pub(crate) fn credentials(keys: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (key, value) in keys {
        std::fs::write(folder.path().join(key), value).unwrap();
    }
    folder
}

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}
