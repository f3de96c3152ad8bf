//! The real binary with a checkpoint that it must download: what it says meanwhile, and how it ends when it cannot.

use std::{path::Path, process::Stdio, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path as UrlPath, State},
    http::StatusCode,
    routing::get,
};
use cllm_engine::random::random_checkpoint;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
    sync::watch,
};

use crate::{engine::config, support::eventually};

const COMMIT: &str = "0123456789012345678901234567890123456789";

/// A hub with the files of a folder, whose weights arrive by half until it is released.
#[derive(Clone)]
struct Hub {
    files: Arc<Vec<(String, Vec<u8>)>>,
    released: watch::Receiver<bool>,
}

async fn hub(folder: &Path) -> (String, watch::Sender<bool>) {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()));
    let (release, released) = watch::channel(false);
    let router = Router::new()
        .route("/api/models/org/name/revision/main", get(list))
        .route("/org/name/resolve/{commit}/{file}", get(file))
        .with_state(Hub { files: Arc::new(files.collect()), released });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    (endpoint, release)
}

async fn list(State(hub): State<Hub>) -> Json<Value> {
    let siblings = hub.files.iter().map(|(name, content)| json!({"rfilename": name, "size": content.len()}));
    Json(json!({"sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()}))
}

async fn file(State(hub): State<Hub>, UrlPath((_, file)): UrlPath<(String, String)>) -> Result<Body, StatusCode> {
    let (name, content) = hub.files.iter().find(|(name, _)| *name == file).cloned().ok_or(StatusCode::NOT_FOUND)?;
    let half = if name == "model.safetensors" { content.len() / 2 } else { content.len() };
    let (first, second) = content.split_at(half);
    let (first, second) = (Bytes::copy_from_slice(first), Bytes::copy_from_slice(second));
    let mut released = hub.released;
    let rest = async move {
        drop(released.wait_for(|released| *released).await);
        Ok(second)
    };
    let parts = futures::stream::once(async { Ok::<_, std::io::Error>(first) });
    Ok(Body::from_stream(futures::StreamExt::chain(parts, futures::stream::once(rest))))
}

fn command(endpoint: &str, folder: &Path, uri: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm-server"));
    command.arg(format!("--model={uri}")).arg(format!("--endpoint={endpoint}"));
    command.arg(format!("--cache={}", folder.join("cache").display()));
    command.arg(format!("--termination-message={}", folder.join("last-words").display()));
    command.args(["--served-name=m", "--http-port=0", "--metrics-port=0", "--threads=1"]);
    command.env_remove("RUST_LOG").stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Exit code, last words and log.
async fn ended(mut command: Command, folder: &Path) -> (Option<i32>, String, String) {
    let output = command.output().await.unwrap();
    let last_words = std::fs::read_to_string(folder.join("last-words")).unwrap_or_default();
    (output.status.code(), last_words, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn it_listens_first_and_says_how_far_it_is() {
    let (source, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    random_checkpoint(source.path(), &config(64), 7).unwrap();
    let (endpoint, release) = hub(source.path()).await;
    let digest = cllm_engine::checkpoint::digest(source.path()).unwrap();
    let mut command = command(&endpoint, folder.path(), "hf://org/name");
    command.arg(format!("--digest={digest}"));
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let (http, metrics) = loop {
        let line = log.next_line().await.unwrap().expect("it never listened");
        if let Some((_, rest)) = line.split_once("listening http=") {
            let (http, rest) = rest.split_once(" metrics=").unwrap();
            break (format!("http://{http}"), format!("http://{}", rest.split(' ').next().unwrap()));
        }
    };
    tokio::spawn(async move { log.into_inner().read_to_end(&mut Vec::new()).await });
    let status = async || reqwest::get(format!("{metrics}/status")).await.unwrap().json::<Value>().await.unwrap();
    eventually("half", async || status().await["artifact"]["bytesDone"].as_u64().is_some_and(|done| done > 1000)).await;
    let artifact = status().await["artifact"].clone();
    assert!(artifact["bytesTotal"].as_u64() > artifact["bytesDone"].as_u64(), "{artifact}");
    assert_eq!(reqwest::get(format!("{http}/livez")).await.unwrap().status(), 200);
    let ready = reqwest::get(format!("{http}/readyz")).await.unwrap();
    assert_eq!(ready.status(), 503);
    let reason = ready.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(reason.contains("is being downloaded") && reason.contains("bytes"), "{reason}");

    release.send(true).unwrap();
    eventually("ready", async || reqwest::get(format!("{http}/readyz")).await.unwrap().status() == 200).await;
    let status = status().await;
    assert_eq!((&status["artifact"], &status["digest"]), (&Value::Null, &json!(digest)));
}

#[tokio::test]
async fn the_end_is_a_sentence_and_says_whether_to_try_again() {
    let (source, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    random_checkpoint(source.path(), &config(64), 7).unwrap();
    let (endpoint, release) = hub(source.path()).await;
    release.send(true).unwrap();
    let (code, last_words, log) = ended(command(&endpoint, folder.path(), "hf://org/other"), folder.path()).await;
    assert_eq!(code, Some(2), "{log}");
    assert!(last_words.contains("404") && last_words.contains("check that org/other exists"), "{last_words}");
    assert_eq!(last_words.lines().count(), 1);

    let mut pinned = command(&endpoint, folder.path(), "hf://org/name");
    pinned.arg(format!("--digest=sha256:{}", "0".repeat(64)));
    let (code, last_words, log) = ended(pinned, folder.path()).await;
    assert_eq!(code, Some(2), "{log}");
    assert!(last_words.contains("its digest is sha256:") && last_words.contains("spec.model.digest"), "{last_words}");

    // a Secret may be corrected while the Pod waits to be started again
    let mut without_token = command(&endpoint, folder.path(), "hf://org/name");
    without_token.arg(format!("--credentials={}", source.path().display()));
    let (code, last_words, log) = ended(without_token, folder.path()).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(last_words.contains("the key token is missing"), "{last_words}");
}
