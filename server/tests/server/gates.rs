//! What a server measures of itself before it answers, and what it does when that is too little.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cllm_engine::{checkpoint, random::random_checkpoint};
use cllm_server::{ServeError, engine::load};
use serde_json::{Value, json};

use crate::{
    engine::config,
    support::{Server, completion, eventually},
};

const COMPLETIONS: &str = "/v1/completions";

/// No decoding is so much faster.
const UNREACHABLE: &str = "--min-speedup=1000";

fn checkpoint_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(folder.path(), &config(192), 7).unwrap();
    folder
}

/// A server that has loaded, ready or not.
async fn loaded(model: &Path, extra: &[&str]) -> Server {
    let server = start(model, extra).await;
    eventually("loaded", async || server.get("/startupz").await.status() == 200).await;
    server
}

async fn start(model: &Path, extra: &[&str]) -> Server {
    let model: PathBuf = model.to_owned();
    let extra: Vec<&str> = extra.iter().copied().chain(["--threads=2"]).collect();
    Server::start(&extra, move |args| load(args, &model)).await
}

/// The error with which it ends.
async fn refusal(model: &Path, extra: &str) -> ServeError {
    let ended = start(model, &[extra]).await.ended;
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap().unwrap().unwrap_err()
}

async fn answer(server: &Server) -> Value {
    server.answer(COMPLETIONS, &completion("a b a b a b", &json!({"max_tokens": 60}))).await
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn it_measures_itself_against_itself_before_it_answers() {
    let folder = checkpoint_folder();
    let status = loaded(folder.path(), &["--block-size=5"]).await.status().await;
    let speedup = &status["speedup"];
    assert!(number(&speedup["overOwnAutoregressive"]) > 0.0, "{speedup}");
    assert!(number(&speedup["overOwnAutoregressiveEndToEnd"]) > 0.0, "{speedup}");
    assert!((1.0..=5.0).contains(&number(&speedup["tokensPerForward"])), "{speedup}");
    assert_eq!(
        (&speedup["blockSize"], &speedup["concurrency"], &speedup["prompts"]),
        (&json!(5), &json!(1), &json!(8))
    );
    assert_eq!((&speedup["promptsFrom"], &speedup["tokens"]), (&json!("built-in"), &json!(8 * 64)));
    let hardware = status["hardware"].as_str().unwrap();
    let [processor, set] = ["hardware", "instructionSet"].map(|name| speedup[name].as_str().unwrap());
    assert_eq!(hardware, format!("{processor}, {set}"));
    assert_eq!((&status["gate"], &status["ready"]), (&Value::Null, &json!(true)));
}

#[tokio::test]
async fn one_row_a_forward_is_not_measured_and_has_no_gate() {
    let folder = checkpoint_folder();
    for extra in ["--strategy=Autoregressive", "--block-size=1"] {
        let status = loaded(folder.path(), &[extra, UNREACHABLE, "--on-missed-gate=Block"]).await.status().await;
        let found = (&status["speedup"], &status["gate"], &status["ready"]);
        assert_eq!(found, (&Value::Null, &Value::Null, &json!(true)), "{extra}");
    }
}

#[tokio::test]
async fn below_its_gate_it_falls_back_and_gives_the_same_answers() {
    let folder = checkpoint_folder();
    let reference = answer(&loaded(folder.path(), &["--min-speedup=0"]).await).await;
    let server = loaded(folder.path(), &[UNREACHABLE]).await;
    let status = server.status().await;
    assert_eq!((&status["effectiveStrategy"], &status["blockSize"]), (&json!("Autoregressive"), &json!(1)));
    assert_eq!(status["gate"], json!({"minSpeedup": "1000", "passed": false, "blocked": false}));
    assert!(status["speedup"]["blockSize"] == 16 && status["ready"] == true, "{status}");
    let found = answer(&server).await;
    assert_eq!((&found["choices"], &found["usage"]), (&reference["choices"], &reference["usage"]));
    assert_eq!(found["metrics"]["tokens_per_forward"], 1.0);
}

#[tokio::test]
async fn blocked_it_answers_nobody_and_says_why() {
    let folder = checkpoint_folder();
    let server = loaded(folder.path(), &[UNREACHABLE, "--on-missed-gate=Block"]).await;
    let status = server.status().await;
    assert_eq!((&status["ready"], &status["effectiveStrategy"]), (&json!(false), &json!("Jacobi")));
    assert_eq!(status["gate"], json!({"minSpeedup": "1000", "passed": false, "blocked": true}));
    let found = status["speedup"]["overOwnAutoregressive"].as_str().unwrap().to_owned();
    let request = server.post(COMPLETIONS, &completion("a", &json!({})));
    for response in [server.get("/readyz").await, request.send().await.unwrap()] {
        assert_eq!(response.status(), 503);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "gate_missed");
        let message = error["error"]["message"].as_str().unwrap();
        for told in [format!("{found} times"), "at least 1000".to_owned(), "--min-speedup".to_owned()] {
            assert!(message.contains(&told), "{message}");
        }
    }
    assert_eq!(server.get("/livez").await.status(), 200);
    server.shutdown.drain.cancel();
    server.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn warned_it_answers_as_it_was_asked_to() {
    let folder = checkpoint_folder();
    let status = loaded(folder.path(), &[UNREACHABLE, "--on-missed-gate=Warn"]).await.status().await;
    assert_eq!((&status["ready"], &status["effectiveStrategy"]), (&json!(true), &json!("Jacobi")));
    assert_eq!(status["gate"], json!({"minSpeedup": "1000", "passed": false, "blocked": false}));
}

#[tokio::test]
async fn prompts_are_lines_of_text_or_of_json() {
    let folder = checkpoint_folder();
    let prompts = folder.path().join("prompts.txt");
    let messages = r#"{"messages": [{"role": "user", "content": "a"}]}"#;
    let lines = ["How many customers?", "", r#"{"prompt": "select"}"#, "[1, 2]", messages];
    std::fs::write(&prompts, lines.join("\n")).unwrap();
    let argument = format!("--prompts={}", prompts.display());
    let speedup = loaded(folder.path(), &[&argument]).await.status().await["speedup"].clone();
    assert_eq!((&speedup["prompts"], &speedup["promptsFrom"]), (&json!(4), &json!(prompts.display().to_string())));

    for (text, told) in [
        ("a\n{\"prompt\": 1}\n", "line 2 needs a string \"prompt\""),
        ("{\"prompt\": \n", "line 1 is not JSON"),
        ("\n \n", "no prompts"),
    ] {
        std::fs::write(&prompts, text).unwrap();
        let error = refusal(folder.path(), &argument).await;
        assert!(matches!(&error, ServeError::Prompts(why) if why.contains(told)), "{text:?}: {error}");
        // A file that somebody corrects: to be started again, unlike a checkpoint that is not what it should be.
        assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", std::process::ExitCode::FAILURE));
    }
}

#[tokio::test]
async fn another_digest_than_asked_for_is_refused() {
    let folder = checkpoint_folder();
    let digest = checkpoint::digest(folder.path()).unwrap();
    let status = loaded(folder.path(), &[&format!("--digest={digest}")]).await.status().await;
    assert_eq!(status["digest"], digest);
    let other = format!("sha256:{}", "0".repeat(64));
    let error = refusal(folder.path(), &format!("--digest={other}")).await;
    let ServeError::Load(sentence) = &error else { panic!("{error}") };
    assert!(sentence.contains(&digest) && sentence.contains(&other), "{sentence}");
    assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", std::process::ExitCode::from(2)));
}
