//! Against a real S3 server: checkpoints and data out of it, results into it.

use std::path::Path;

use cllm_storage::{Access, Freshness, Meter, Request, ResultStore, Source, StorageError};

use cllm_tests::sources::{ACCESS_KEY, Files, SECRET_KEY, Server};

use crate::support::{access, checkpoint, content, credentials, get, impatient, needed, noise, request, s3};

fn keys() -> tempfile::TempDir {
    credentials(&[("accessKeyId", ACCESS_KEY), ("secretAccessKey", SECRET_KEY)])
}

fn reached(server: &Server, keys: &Path) -> Access {
    access(&format!("http://{}", server.address()), Some(keys))
}

fn written(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[tokio::test]
async fn a_result_goes_up_and_comes_down_as_a_checkpoint() {
    let (server, keys) = (s3().await, keys());
    let access = reached(&server, keys.path());
    // more than one part of an upload
    let mut files = checkpoint(40_000_000);
    files.insert("report.json".to_owned(), b"{}".to_vec());
    let store = ResultStore::open("s3://bucket/models/text2sql", &access).unwrap();
    assert_eq!(store.read("abc", "report.json").await.unwrap(), None);
    let (folder, meter) = (written(&files), Meter::default());
    store.write("abc", folder.path(), "report.json", &meter).await.unwrap();
    assert_eq!(store.read("abc", "report.json").await.unwrap().unwrap(), b"{}");
    let total: usize = files.values().map(Vec::len).sum();
    assert_eq!((store.size("abc").await.unwrap(), meter.progress().bytes_done), (total as u64, total as u64));
    let again = store.write("abc", folder.path(), "report.json", &Meter::default()).await.unwrap_err();
    assert!(matches!(again, StorageError::Exists { .. }), "{again}");

    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&request("s3://bucket/models/text2sql/abc", access.clone(), cache.path())).await.unwrap();
    files.remove("report.json");
    assert_eq!(content(&fetched.folder), needed(&files));
    // another state of the same place is another folder
    std::fs::write(server.folder().join("buckets/bucket/models/text2sql/abc/config.json"), "{\"b\": 2}").unwrap();
    let newer = get(&request("s3://bucket/models/text2sql/abc", access, cache.path())).await.unwrap();
    assert_ne!(newer.folder, fetched.folder);
    assert_eq!(content(&newer.folder)["config.json"], b"{\"b\": 2}");
    assert!(fetched.folder.exists(), "the old one may be in use");
}

#[tokio::test]
async fn half_an_upload_is_no_result() {
    let (server, keys) = (s3().await, keys());
    let access = reached(&server, keys.path());
    let store = ResultStore::open("s3://bucket/models", &access).unwrap();
    let bucket = server.folder().join("buckets/bucket/models/abc");
    std::fs::create_dir_all(&bucket).unwrap();
    std::fs::write(bucket.join("config.json"), "half").unwrap();
    assert_eq!(store.read("abc", "report.json").await.unwrap(), None);
    let unfinished = written(&checkpoint(100));
    let error = store.write("abc", unfinished.path(), "report.json", &Meter::default()).await.unwrap_err();
    assert!(error.to_string().contains("no report.json"), "{error}");
    std::fs::write(unfinished.path().join("report.json"), "{}").unwrap();
    store.write("abc", unfinished.path(), "report.json", &Meter::default()).await.unwrap();
    assert_eq!(std::fs::read(bucket.join("config.json")).unwrap(), b"{}");
}

#[tokio::test]
async fn data_by_a_pattern() {
    let (server, keys) = (s3().await, keys());
    let data = server.folder().join("buckets/bucket/data");
    std::fs::create_dir_all(data.join("more")).unwrap();
    for name in ["b.jsonl", "a.jsonl", "c.jsonl.gz", "more/d.jsonl"] {
        std::fs::write(data.join(name), noise(50, 1)).unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    let files = async |uri: &str, freshness| {
        let source = Source::parse(uri).unwrap();
        let request =
            Request::files(source, reached(&server, keys.path()), cache.path().to_owned(), freshness).unwrap();
        get(&Request { retries: impatient(), ..request }).await
    };
    let fetched = files("s3://bucket/data/*.jsonl", Freshness::First).await.unwrap();
    assert_eq!(fetched.files, ["a.jsonl", "b.jsonl"]);
    assert_eq!(files("s3://bucket/data/*.jsonl*", Freshness::Latest).await.unwrap().files.len(), 3);
    assert_eq!(files("s3://bucket/data/c.jsonl.gz", Freshness::Latest).await.unwrap().files, ["c.jsonl.gz"]);
    std::fs::write(data.join("z.jsonl"), "later").unwrap();
    assert_eq!(files("s3://bucket/data/*.jsonl", Freshness::First).await.unwrap(), fetched, "all stages see the same");
    assert_eq!(files("s3://bucket/data/*.jsonl", Freshness::Latest).await.unwrap().files.len(), 3);
    let error = files("s3://bucket/data/*.parquet", Freshness::Latest).await.unwrap_err().to_string();
    assert!(error.contains("none of the"), "{error}");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_nothing_secret() {
    let (server, cache) = (s3().await, tempfile::tempdir().unwrap());
    let wrong = credentials(&[("accessKeyId", ACCESS_KEY), ("secretAccessKey", "another-hidden-secret")]);
    let half = credentials(&[("accessKeyId", ACCESS_KEY)]);
    let right = keys();
    for (uri, keys, expected, other_keys_help) in [
        ("s3://bucket/models", Some(wrong.path()), "the keys are valid", true),
        ("s3://bucket/models", Some(half.path()), "secretAccessKey is missing", true),
        ("s3://bucket/models", None, "asked without keys", true),
        ("s3://no-such-bucket/models", Some(right.path()), "check the bucket no-such-bucket", false),
        ("s3://bucket/nothing/here", Some(right.path()), "is no checkpoint", false),
    ] {
        let access = access(&format!("http://{}", server.address()), keys);
        let error = get(&request(uri, access, cache.path())).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected) && !error.retry_helps(), "{uri}: {text}");
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(error.is_about_credentials(), other_keys_help, "{text}");
    }
}
