//! Checkpoints that are one GGUF file, out of a hub, a bucket and a registry.

use cllm_tests::sources::{ACCESS_KEY, Files, Hub, SECRET_KEY};

use crate::support::{access, content, credentials, get, noise, request, s3};

/// Files of some names, each with its own content.
fn files(names: &[&str]) -> Files {
    names.iter().enumerate().map(|(seed, name)| ((*name).to_owned(), noise(3000, seed as u64))).collect()
}

async fn fetched(files: &Files, uri: &str) -> Result<Vec<String>, String> {
    let (hub, cache) = (Hub::start(files.clone()).await, tempfile::tempdir().unwrap());
    let fetched = get(&request(uri, access(&hub.endpoint, None), cache.path())).await;
    let fetched = fetched.map_err(|error| error.to_string())?;
    for (name, found) in content(&fetched.folder) {
        assert_eq!(found, files[&name], "{name}");
    }
    Ok(fetched.files)
}

#[tokio::test]
async fn a_repository_gives_its_safetensors_its_only_gguf_file_or_the_one_that_is_named() {
    let one = files(&["README.md", "config.json", "model.Q4_1.gguf"]);
    assert_eq!(fetched(&one, "hf://org/name").await.unwrap(), ["model.Q4_1.gguf"]);
    let several = files(&["a.gguf", "b.gguf"]);
    for uri in ["hf://org/name/b.gguf", "hf://org/name/b.gguf@main"] {
        assert_eq!(fetched(&several, uri).await.unwrap(), ["b.gguf"]);
    }
    let refused = fetched(&several, "hf://org/name").await.unwrap_err();
    assert!(refused.contains("2 GGUF files: a.gguf, b.gguf; name the one to take"), "{refused}");
    let refused = fetched(&several, "hf://org/name/c.gguf").await.unwrap_err();
    assert!(refused.contains("has no file c.gguf; it has a.gguf, b.gguf"), "{refused}");
    let both = files(&["a.gguf", "config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fetched(&both, "hf://org/name").await.unwrap(), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fetched(&both, "hf://org/name/a.gguf").await.unwrap(), ["a.gguf"]);
}

#[tokio::test]
async fn a_bucket_gives_the_file_that_is_named() {
    let (server, keys) = (s3().await, credentials(&[("accessKeyId", ACCESS_KEY), ("secretAccessKey", SECRET_KEY)]));
    let access = access(&format!("http://{}", server.address()), Some(keys.path()));
    let folder = server.folder().join("buckets/bucket/models");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, content) in files(&["a.gguf", "b.gguf"]) {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    let get = async |uri: &str| get(&request(uri, access.clone(), cache.path())).await;
    assert_eq!(get("s3://bucket/models/b.gguf").await.unwrap().files, ["b.gguf"]);
    let refused = get("s3://bucket/models").await.unwrap_err().to_string();
    assert!(refused.contains("2 GGUF files"), "{refused}");
    let refused = get("s3://bucket/models/c.gguf").await.unwrap_err().to_string();
    assert!(refused.contains("has no file c.gguf; it has a.gguf, b.gguf"), "{refused}");
}
