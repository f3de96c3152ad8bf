//! Processes that are killed in the middle, and processes that share a cache. The child is this very binary.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{access, checkpoint, content, eventually, get, needed, request};
use cllm_tests::sources::{Hub, Mishap};

const WEIGHTS: usize = 4_000_000;
const HELD_AT: usize = 2_500_000;

/// Not a test of its own: what the child processes run.
#[tokio::test]
#[ignore = "run by the other tests as a process of its own"]
async fn child() {
    let (Some(endpoint), Some(cache)) = (variable("STORAGE_TEST_ENDPOINT"), variable("STORAGE_TEST_CACHE")) else {
        return;
    };
    get(&request("hf://org/name", access(&endpoint, None), Path::new(&cache))).await.unwrap();
}

/// The harness takes no arguments of ours.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn spawn(hub: &Hub, cache: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kill::child"])
        .env("STORAGE_TEST_ENDPOINT", &hub.endpoint)
        .env("STORAGE_TEST_CACHE", cache)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn ended(mut child: Child) -> bool {
    tokio::task::spawn_blocking(move || child.wait().unwrap().success()).await.unwrap()
}

fn bytes_in_parts(cache: &Path) -> u64 {
    let folders = std::fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let partial = folders.filter(|path| path.extension().is_some_and(|extension| extension == "partial"));
    let files = partial.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let weights = files.filter(|entry| entry.file_name() == ".model.safetensors.part");
    weights.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

#[tokio::test]
async fn a_killed_download_is_resumed_and_verified() {
    let files = checkpoint(WEIGHTS);
    let hub = Hub::start(files.clone()).await;
    let cache = tempfile::tempdir().unwrap();
    // the small files may come first: every answer is held
    hub.will((0..4).map(|_| Mishap::Hold(HELD_AT)));
    let mut child = spawn(&hub, cache.path());
    eventually("half of the weights is on the disk", || bytes_in_parts(cache.path()) >= 1_000_000).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = bytes_in_parts(cache.path());
    assert!(kept >= 1_000_000 && kept < WEIGHTS as u64, "{kept}");
    hub.release();
    assert!(ended(spawn(&hub, cache.path())).await);
    let finished = get(&request("hf://org/name", access(&hub.endpoint, None), cache.path())).await.unwrap();
    assert_eq!(content(&finished.folder), needed(&files));
    let asked = hub.asked("model.safetensors");
    let resumed = asked.iter().filter(|asked| asked.in_store && asked.range.is_some()).collect::<Vec<_>>();
    assert!(matches!(resumed.as_slice(), [one] if one.range == Some(format!("bytes={kept}-"))), "{asked:?}");
}

#[tokio::test]
async fn two_processes_on_one_cache_download_once() {
    let files = checkpoint(WEIGHTS);
    let hub = Hub::start(files.clone()).await;
    let cache = tempfile::tempdir().unwrap();
    hub.will((0..4).map(|_| Mishap::Hold(HELD_AT)));
    let children = [spawn(&hub, cache.path()), spawn(&hub, cache.path())];
    eventually("both have listed", || hub.lists() == 2).await;
    let finished = || {
        std::fs::read_dir(cache.path())
            .unwrap()
            .filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
            .count()
    };
    assert_eq!(finished(), 0, "nobody sees half a checkpoint");
    hub.release();
    for child in children {
        assert!(ended(child).await);
    }
    assert_eq!(finished(), 1);
    let asked: Vec<_> = hub.asked("model.safetensors").into_iter().filter(|asked| asked.in_store).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[tokio::test]
async fn one_that_waits_takes_over_from_one_that_is_killed() {
    let files = checkpoint(WEIGHTS);
    let hub = Hub::start(files.clone()).await;
    let cache = tempfile::tempdir().unwrap();
    hub.will((0..4).map(|_| Mishap::Hold(HELD_AT)));
    let mut first = spawn(&hub, cache.path());
    eventually("half of the weights is on the disk", || bytes_in_parts(cache.path()) >= 1_000_000).await;
    let second = spawn(&hub, cache.path());
    eventually("the second has listed", || hub.lists() == 2).await;
    first.kill().unwrap();
    first.wait().unwrap();
    hub.release();
    assert!(ended(second).await);
    let finished = get(&request("hf://org/name", access(&hub.endpoint, None), cache.path())).await.unwrap();
    assert_eq!(content(&finished.folder), needed(&files));
}
