//! What a download does when all is well, and when it is not.

use cllm_storage::{Freshness, Meter, Request, StorageError, fetch};

use crate::support::{access, checkpoint, content, credentials, get, impatient, needed, noise, request};
use cllm_tests::sources::{COMMIT, Hub, Mishap};

const MODEL: &str = "hf://org/name";

#[tokio::test]
async fn a_checkpoint_arrives_once_and_the_token_stays_with_the_hub() {
    let files = checkpoint(300_000);
    let hub = Hub::start(files.clone()).await;
    hub.require_token("hidden-token");
    let (keys, cache) = (credentials(&[("token", "hidden-token\n")]), tempfile::tempdir().unwrap());
    let request = request(MODEL, access(&hub.endpoint, Some(keys.path())), cache.path());
    let meter = Meter::default();
    let fetched = fetch(&request, &meter).await.unwrap();
    assert_eq!(content(&fetched.folder), needed(&files));
    assert_eq!(fetched.revision, COMMIT);
    let bytes = needed(&files).values().map(Vec::len).sum::<usize>() as u64;
    let progress = meter.progress();
    assert_eq!((progress.bytes_done, progress.bytes_total), (bytes, bytes));
    let in_store = hub.asked("model.safetensors").into_iter().filter(|asked| asked.in_store).collect::<Vec<_>>();
    assert!(matches!(in_store.as_slice(), [one] if one.authorization.is_none()), "{in_store:?}");
    assert!(hub.all_asked().iter().filter(|asked| !asked.in_store).all(|asked| asked.authorization.is_some()));

    let before = hub.all_asked().len();
    assert_eq!(get(&request).await.unwrap(), fetched);
    assert_eq!(hub.all_asked().len(), before, "it was there");
    // a file that is not as it was described
    std::fs::write(fetched.folder.join("config.json"), "{ }").unwrap();
    assert_eq!(content(&get(&request).await.unwrap().folder), needed(&files));
    let hidden = std::fs::read_dir(cache.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial"));
    assert_eq!(hidden.count(), 0);
}

#[tokio::test]
async fn a_mirror_that_lists_no_sizes_is_asked_for_each() {
    let files = checkpoint(5000);
    let hub = Hub::start(files.clone()).await;
    let cache = tempfile::tempdir().unwrap();
    let fetched = get(&request("hf://org/bare", access(&hub.endpoint, None), cache.path())).await.unwrap();
    assert_eq!(content(&fetched.folder), needed(&files));
}

#[tokio::test]
async fn broken_connections_go_on_where_they_broke() {
    let files = checkpoint(1_000_000);
    let hub = Hub::start(files.clone()).await;
    let cache = tempfile::tempdir().unwrap();
    let mut request = request(&format!("{MODEL}@{COMMIT}"), access(&hub.endpoint, None), cache.path());
    // more breaks than attempts: progress forgives
    hub.will((0..8).map(|_| Mishap::Break(100_000)));
    request.retries.attempts = 4;
    let fetched = get(&request).await.unwrap();
    assert_eq!(content(&fetched.folder), needed(&files));
    let asked = hub.asked("model.safetensors");
    let in_store: Vec<_> = asked.iter().filter(|asked| asked.in_store).collect();
    assert!(in_store.len() > 2, "{in_store:?}");
    assert!(
        in_store[1..].iter().all(|asked| asked.range.as_deref().is_some_and(|range| range != "bytes=0-")),
        "{in_store:?}"
    );
    let served: usize = in_store.iter().map(|asked| asked.served).sum();
    assert!(served < 1_200_000, "{served} bytes were sent for 1000000");
}

#[tokio::test]
async fn a_file_that_changed_is_never_glued_together() {
    let mut files = checkpoint(10_000);
    files.insert("tokenizer_config.json".to_owned(), noise(2000, 8));
    let hub = Hub::start(files.clone()).await;
    let cache = tempfile::tempdir().unwrap();
    let mut request = request(MODEL, access(&hub.endpoint, None), cache.path());
    request.retries.attempts = 1;
    hub.will((0..4).map(|_| Mishap::Break(700)));
    get(&request).await.unwrap_err();
    // a small file has no announced hash: its tag alone tells
    let changed = noise(2000, 9);
    hub.change("tokenizer_config.json", changed.clone());
    request.retries = impatient();
    let fetched = get(&request).await.unwrap();
    assert_eq!(content(&fetched.folder)["tokenizer_config.json"], changed);
    let asked = hub.asked("tokenizer_config.json");
    assert!(asked.iter().any(|asked| asked.range.is_some()), "it was asked to go on: {asked:?}");
}

#[tokio::test]
async fn refusals_come_at_once_and_say_what_to_do() {
    let hub = Hub::start(checkpoint(100)).await;
    hub.require_token("right-token");
    let (keys, cache) = (credentials(&[("token", "wrong-token")]), tempfile::tempdir().unwrap());
    let cases = [(MODEL, true, ["401", "the token is valid"]), (MODEL, false, ["401", "spec.model.secretRef"])];
    for (uri, with_token, expected) in cases {
        let access = access(&hub.endpoint, with_token.then(|| keys.path()));
        let error = get(&request(uri, access, cache.path())).await.unwrap_err();
        let text = error.to_string();
        assert!(
            expected.iter().all(|expected| text.contains(expected)) && text.contains("/api/models/org/name"),
            "{text}"
        );
        assert!(!text.contains("wrong-token") && !error.retry_helps() && error.is_about_credentials(), "{text}");
    }
    assert_eq!(hub.lists(), 2, "nothing was tried again");
    std::fs::write(keys.path().join("token"), "right-token").unwrap();
    let access = access(&hub.endpoint, Some(keys.path()));
    for (uri, expected) in
        [("hf://org/gated", "403"), ("hf://org/missing", "404"), ("hf://org/name@v9", "the revision v9")]
    {
        let text = get(&request(uri, access.clone(), cache.path())).await.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    // the rotated token is read by the next use
    get(&request(MODEL, access, cache.path())).await.unwrap();
}

#[tokio::test]
async fn overload_is_waited_for_and_given_up_in_the_end() {
    let hub = Hub::start(checkpoint(5000)).await;
    let cache = tempfile::tempdir().unwrap();
    let request = request(MODEL, access(&hub.endpoint, None), cache.path());
    hub.will([Mishap::Status(503), Mishap::Status(429), Mishap::Status(500)]);
    get(&request).await.unwrap();
    assert_eq!(hub.lists(), 4);
    let other = tempfile::tempdir().unwrap();
    let request = Request { cache: other.path().to_owned(), ..request };
    hub.will((0..4).map(|_| Mishap::Status(503)));
    let error = get(&request).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }) && error.to_string().contains("503"), "{error}");
    assert!(error.retry_helps());
}

#[tokio::test]
async fn content_that_is_not_what_was_announced_is_refused() {
    let hub = Hub::start(checkpoint(5000)).await;
    hub.announce(&"0".repeat(64));
    let cache = tempfile::tempdir().unwrap();
    let error = get(&request(MODEL, access(&hub.endpoint, None), cache.path())).await.unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    let visible = std::fs::read_dir(cache.path())
        .unwrap()
        .filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(visible.count(), 0, "nothing looks finished");
}

#[tokio::test]
async fn pickles_alone_are_no_checkpoint() {
    let mut files = checkpoint(100);
    files.remove("model.safetensors");
    let hub = Hub::start(files).await;
    let cache = tempfile::tempdir().unwrap();
    let text = get(&request(MODEL, access(&hub.endpoint, None), cache.path())).await.unwrap_err().to_string();
    assert!(text.contains("*.safetensors") && text.contains("pickles"), "{text}");
}

#[tokio::test]
async fn a_silent_hub_keeps_nobody_from_what_is_in_the_cache() {
    let hub = Hub::start(checkpoint(5000)).await;
    let cache = tempfile::tempdir().unwrap();
    let latest = request(MODEL, access(&hub.endpoint, None), cache.path());
    let first = Request { freshness: Freshness::First, ..latest.clone() };
    let commit = request(&format!("{MODEL}@{COMMIT}"), access(&hub.endpoint, None), cache.path());
    let fetched = get(&latest).await.unwrap();
    get(&commit).await.unwrap();
    let lists = hub.lists();
    assert_eq!(get(&first).await.unwrap(), fetched);
    get(&commit).await.unwrap();
    assert_eq!(hub.lists(), lists, "neither asks");
    hub.stop().await;
    assert_eq!(get(&latest).await.unwrap(), fetched);
    let elsewhere = tempfile::tempdir().unwrap();
    let error = get(&Request { cache: elsewhere.path().to_owned(), ..latest }).await.unwrap_err();
    assert!(error.retry_helps() && error.to_string().contains("/api/models/org/name"), "{error}");
}
