//! Memory of the real binary: many requests take no more of it than some.

use std::fs;

use cllm_engine::random::random_checkpoint;
use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    engine::config,
    process::{Process, command},
    support::completion,
};

/// Requests at the same time.
const CLIENTS: usize = 12;

/// Bytes of a line of `/proc/PID/status`.
fn status(process: &Process, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// So many requests with prompts and answers of random lengths, some of which nobody waits for.
async fn ask(process: &Process, requests: usize, seed: u64) {
    let client = reqwest::Client::new();
    let url = format!("{}/v1/completions", process.http);
    let mut random = StdRng::seed_from_u64(seed);
    let bodies: Vec<(Value, bool)> = (0..requests)
        .map(|_| {
            let prompt: Vec<u32> = (0..random.random_range(1..300)).map(|_| random.random_range(0..200)).collect();
            let extra = json!({
                "max_tokens": random.random_range(1..60), "temperature": 1, "seed": 1, "stream": random.random_bool(0.5),
            });
            (completion(json!(prompt), &extra), random.random_bool(0.1))
        })
        .collect();
    let request = |(body, gives_up): (Value, bool)| {
        let sent = client.post(&url).json(&body).send();
        async move {
            let response = sent.await.unwrap();
            assert_eq!(response.status(), 200);
            if !gives_up {
                response.bytes().await.unwrap();
            }
        }
    };
    stream::iter(bodies).map(request).buffer_unordered(CLIENTS).collect::<Vec<()>>().await;
}

#[tokio::test]
#[ignore = "ten thousand requests: make soak"]
async fn ten_thousand_requests_take_no_more_memory_than_one_thousand() {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(folder.path(), &config(400), 7).unwrap();
    let mut command = command(folder.path());
    command.args(["--kv-cache-mib=4", "--max-concurrent-requests=8"]).env("RUST_LOG", "error,cllm_server::serve=info");
    let process = Process::start(command).await;
    process.ready().await;
    ask(&process, 1_000, 1).await;
    let early = status(&process, "VmRSS");
    for seed in 2..=10 {
        ask(&process, 1_000, seed).await;
        println!("after {seed},000 requests {} bytes", status(&process, "VmRSS"));
    }
    let late = status(&process, "VmRSS");
    let ratio = late as f64 / early as f64;
    println!("after 1,000 requests {early} bytes, after 10,000 {late}: {ratio:.3}");
    assert!(ratio <= 1.05, "{early} bytes, then {late}");
}
