//! Against a real registry: an artifact of named files as ORAS pushes it, an image with an archive as modelcars are, behind a login or not.

use std::path::Path;

use cllm_tests::sources::{Files, Pusher, Server};
use serde_json::json;

use crate::support::{access, checkpoint, content, credentials, get, needed, registry, request};

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
    format!("oci://{}/team/model{reference}", server.address())
}

#[tokio::test]
async fn artifacts_and_images_of_a_public_registry() {
    let server = registry(false).await;
    let (pusher, files) = (Pusher::new(&server, false), checkpoint(200_000));
    let digest = pusher.artifact("v1", &files).await;
    pusher.image("car", archive(&files)).await;
    let cache = tempfile::tempdir().unwrap();
    let endpoint = format!("http://{}", server.address());
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
    let (endpoint, uri) = (format!("http://{}", server.address()), uri(&server, ""));
    let config = json!({"auths": {server.address(): {"username": "me", "password": "hidden-password"}}}).to_string();
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
