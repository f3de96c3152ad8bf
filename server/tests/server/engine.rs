//! The real engine behind HTTP, on small random checkpoints: whatever the way of asking, the answer is the same.

use std::path::Path;

use cllm_engine::{ModelConfig, checkpoint, random::random_checkpoint};
use cllm_server::{ServeError, engine::load};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Server, chat, chat_text, completion, completion_text, eventually};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const CONTEXT: usize = 192;
const PROMPTS: [&str; 6] = ["select", "a b a b a b", "grüße 🙂", "How many customers?", "x", "1 2 3 4 5 6 7 8 9"];

/// No token ends an answer, so lengths are known.
pub(crate) fn config(context: usize) -> ModelConfig {
    let text = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 257, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "bos_token_id": 0,
    });
    ModelConfig::from_json(&text.to_string()).unwrap()
}

pub(crate) struct Served {
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) async fn serve_random(extra: &[&str]) -> Served {
    serve_random_with(&config(CONTEXT), extra).await
}

async fn serve_random_with(config: &ModelConfig, extra: &[&str]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(folder.path(), config, 7).unwrap();
    let server = start(folder.path(), extra).await;
    server.ready().await;
    Served { server, folder }
}

async fn start(model: &Path, extra: &[&str]) -> Server {
    let model = model.to_owned();
    let extra: Vec<&str> = extra.iter().copied().chain(["--threads=2"]).collect();
    Server::start(&extra, move |args| load(args, &model)).await
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn streaming_gives_the_same_text() {
    // figures too, where they do not depend on how fast the machine is
    let Served { server, .. } = serve_random(&["--adaptive=false"]).await;
    for prompt in PROMPTS {
        let whole = server.answer(COMPLETIONS, &completion(prompt, &json!({"max_tokens": 60}))).await;
        let extra = json!({"max_tokens": 60, "stream": true, "stream_options": {"include_usage": true}});
        let events = server.events(COMPLETIONS, &completion(prompt, &extra)).await;
        assert_eq!(completion_text(&events, 0), text(&whole), "{prompt}");
        assert_eq!(events.last().unwrap()["usage"], whole["usage"], "{prompt}");
        assert_eq!(events.last().unwrap()["metrics"], whole["metrics"], "{prompt}");
        assert_eq!(whole["usage"]["completion_tokens"], 60);

        let whole = server.answer(CHAT, &chat(prompt, &json!({}))).await;
        assert_eq!(whole["usage"]["total_tokens"], CONTEXT, "a chat goes on to the end of the context");
        let events = server.events(CHAT, &chat(prompt, &json!({"stream": true}))).await;
        assert_eq!(chat_text(&events), whole["choices"][0]["message"]["content"].as_str().unwrap(), "{prompt}");
    }
}

#[tokio::test]
async fn the_strategy_changes_the_figures_only() {
    let reference = serve_random(&["--strategy=Autoregressive"]).await.server;
    let jacobi = [
        serve_random(&["--block-size=1"]).await.server,
        serve_random(&["--block-size=7", "--lookup=false", "--adaptive=false"]).await.server,
        serve_random(&["--block-size=16", "--adaptive=false"]).await.server,
        serve_random(&["--block-size=16"]).await.server,
        serve_random(&["--block-size=5", "--lookup=false", "--adaptive=true"]).await.server,
    ];
    for prompt in PROMPTS {
        let body = completion(prompt, &json!({"max_tokens": 100}));
        let expected = reference.answer(COMPLETIONS, &body).await;
        assert_eq!(expected["metrics"]["tokens_per_forward"], 1.0);
        assert_eq!(expected["metrics"]["speculative_decoding"]["num_draft_tokens"], 0);
        for server in &jacobi {
            let found = server.answer(COMPLETIONS, &body).await;
            assert_eq!((&found["choices"], &found["usage"]), (&expected["choices"], &expected["usage"]), "{prompt}");
            let figures = &found["metrics"]["speculative_decoding"];
            let [steps, accepted, drafted] = ["num_spec_steps", "num_accepted_draft_tokens", "num_draft_tokens"]
                .map(|name| figures[name].as_u64().unwrap());
            assert_eq!(steps + accepted, 99, "{figures}");
            assert!(
                accepted <= drafted && drafted <= steps * figures["num_spec_tokens"].as_u64().unwrap(),
                "{figures}"
            );
        }
    }
}

#[tokio::test]
async fn the_page_tells_the_rows_that_were_used() {
    for (extra, fixed) in [("--adaptive=false", true), ("--adaptive=true", false)] {
        let server = serve_random(&["--block-size=8", extra]).await.server;
        // hardly a guess is right where tokens are drawn like this, so more rows than one do not pay
        let extra = json!({"max_tokens": 150, "temperature": 2, "seed": 1});
        let answer = server.answer(COMPLETIONS, &completion("select", &extra)).await;
        let figures = &answer["metrics"]["speculative_decoding"];
        let [steps, drafted] = ["num_spec_steps", "num_draft_tokens"].map(|name| figures[name].as_f64().unwrap());
        let [count, sum] = [
            server.metric("cllm_rows_per_forward_count", "").await,
            server.metric("cllm_rows_per_forward_sum", "").await,
        ];
        assert_eq!((count, sum), (steps, steps + drafted), "{extra}");
        let mean = sum / count;
        assert!(if fixed { mean > 7.0 } else { mean < 4.0 }, "{extra}: {mean} rows");
    }
}

#[tokio::test]
async fn requests_at_the_same_time_get_the_answers_that_they_get_alone() {
    let Served { server, .. } = serve_random(&["--max-concurrent-requests=4"]).await;
    let bodies: Vec<Value> = (0..12)
        .map(|number| {
            let prompt = PROMPTS[number % PROMPTS.len()].repeat(1 + number / PROMPTS.len());
            completion(prompt, &json!({"max_tokens": 20 + 5 * number}))
        })
        .collect();
    let mut alone = Vec::new();
    for body in &bodies {
        alone.push(server.answer(COMPLETIONS, body).await);
    }
    let together = join_all(bodies.iter().map(|body| server.answer(COMPLETIONS, body))).await;
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!((&alone["choices"], &alone["usage"]), (&together["choices"], &together["usage"]));
    }
}

#[tokio::test]
async fn a_tight_memory_changes_no_answer() {
    // a MiB has room for 42 pages of 64 tokens of this model, four answers need 4 x 16
    let extra = ["--max-concurrent-requests=4", "--kv-cache-mib=1"];
    let server = serve_random_with(&config(2000), &extra).await.server;
    let roomy = serve_random_with(&config(2000), &["--prefix-cache=false"]).await.server;
    let bodies = PROMPTS[..4].iter().map(|prompt| completion(prompt.repeat(20), &json!({"max_tokens": 900})));
    let bodies: Vec<Value> = bodies.collect();
    let together = join_all(bodies.iter().map(|body| server.answer(COMPLETIONS, body))).await;
    for (body, found) in bodies.iter().zip(&together) {
        let expected = roomy.answer(COMPLETIONS, body).await;
        assert_eq!((&found["choices"], &found["usage"]), (&expected["choices"], &expected["usage"]));
    }
    let count = async |server: &Server, name| server.metric(name, "").await as u64;
    assert!(count(&server, "cllm_preemptions_total").await > 0);
    assert_eq!(count(&roomy, "cllm_preemptions_total").await, 0);
    assert_eq!(count(&roomy, "cllm_prefix_cache_hits_total").await, 0);
    // once more, and again: all but the last token of the prompt, which finds the next
    server.answer(COMPLETIONS, &bodies[0]).await;
    let before = count(&server, "cllm_prefix_cache_hits_total").await;
    assert_eq!(server.answer(COMPLETIONS, &bodies[0]).await["choices"], together[0]["choices"]);
    let hits = count(&server, "cllm_prefix_cache_hits_total").await - before;
    assert_eq!(hits, together[0]["usage"]["prompt_tokens"].as_u64().unwrap() - 1);
    let is_free = async || server.metric("cllm_kv_cache_usage_ratio", "").await < 1e-9;
    eventually("what is remembered counts as free", is_free).await;
}

#[tokio::test]
async fn a_stop_string_cuts_the_answer_where_it_is() {
    let Served { server, .. } = serve_random(&[]).await;
    for prompt in PROMPTS {
        let whole = server.answer(COMPLETIONS, &completion(prompt, &json!({"max_tokens": 60}))).await;
        let whole = text(&whole);
        let characters: Vec<char> = whole.chars().collect();
        for length in 1..=3 {
            let middle = characters.len() / 2;
            let stop: String = characters[middle..middle + length].iter().collect();
            let expected = &whole[..whole.find(&stop).unwrap()];
            let extra = json!({"max_tokens": 60, "stop": [stop, "does not occur"]});
            let cut = server.answer(COMPLETIONS, &completion(prompt, &extra)).await;
            assert_eq!(
                (text(&cut), &cut["choices"][0]["finish_reason"]),
                (expected, &json!("stop")),
                "{stop:?} in {whole:?}"
            );
            let extra = json!({"max_tokens": 60, "stop": stop, "stream": true});
            let events = server.events(COMPLETIONS, &completion(prompt, &extra)).await;
            assert_eq!(completion_text(&events, 0), expected, "{stop:?} in {whole:?}");
        }
    }
}

#[tokio::test]
async fn the_end_of_sequence_is_counted_and_has_no_text() {
    let plain = serve_random(&[]).await.server;
    let body = completion("select", &json!({"max_tokens": 40}));
    let without_end = plain.answer(COMPLETIONS, &body).await;

    // the same weights, but the last token of that answer now ends it, wherever it occurs first
    let folder = tempfile::tempdir().unwrap();
    random_checkpoint(folder.path(), &config(CONTEXT), 7).unwrap();
    let model = cllm_engine::Checkpoint::open(folder.path()).unwrap();
    let tokens = generated_tokens(&model, "select", 40);
    let end = *tokens.last().unwrap();
    let first = tokens.iter().position(|&token| token == end).unwrap();
    std::fs::write(folder.path().join("generation_config.json"), json!({"eos_token_id": end}).to_string()).unwrap();
    let server = start(folder.path(), &[]).await;
    server.ready().await;
    let answer = server.answer(COMPLETIONS, &body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["completion_tokens"], first + 1);
    assert_eq!(text(&answer), model.tokenizer().decode(&tokens[..first]));
    assert!(text(&without_end).len() > text(&answer).len());
}

fn generated_tokens(opened: &cllm_engine::Checkpoint, prompt: &str, count: usize) -> Vec<u32> {
    use cllm_engine::{ComputeOptions, DecodeOptions, Model, Strategy, Workspace, generate};
    let model = Model::load(opened, ComputeOptions::default()).unwrap();
    let options = DecodeOptions { strategy: Strategy::Autoregressive, max_new_tokens: count, stop_at_eos: false };
    let prompt = opened.tokenizer().encode(prompt).unwrap();
    generate(&model, &mut Workspace::new(&model), &prompt, options).unwrap().tokens
}

#[tokio::test]
async fn tokens_and_text_are_the_same_prompt() {
    let Served { server, folder } = serve_random(&[]).await;
    let tokenizer = cllm_engine::Checkpoint::open(folder.path()).unwrap().tokenizer().clone();
    for prompt in PROMPTS {
        let ids = tokenizer.encode(prompt).unwrap();
        let by_text = server.answer(COMPLETIONS, &completion(prompt, &json!({}))).await;
        let by_ids = server.answer(COMPLETIONS, &completion(json!(ids), &json!({}))).await;
        assert_eq!((&by_text["choices"], &by_text["usage"]), (&by_ids["choices"], &by_ids["usage"]), "{prompt}");
    }
}

#[tokio::test]
async fn it_says_what_it_serves() {
    let Served { server, folder } = serve_random(&["--context-length=100", "--block-size=5"]).await;
    let status = server.status().await;
    assert_eq!(status["digest"], checkpoint::digest(folder.path()).unwrap());
    assert!(status["parameters"].as_u64().unwrap() > 10_000, "{status}");
    assert_eq!((&status["effectiveStrategy"], &status["blockSize"]), (&json!("Jacobi"), &json!(5)));
    let hardware = status["hardware"].as_str().unwrap();
    assert!(hardware.contains("threads: 2"), "{hardware}");
    let fingerprint = server.answer(COMPLETIONS, &completion("a", &json!({}))).await["system_fingerprint"].clone();
    let set = fingerprint.as_str().unwrap().rsplit_once('-').unwrap().1.to_owned();
    assert!(hardware.ends_with(&set), "{hardware} does not name {set}");

    let long = server.post(COMPLETIONS, &completion("a".repeat(90), &json!({"max_tokens": 11}))).send().await.unwrap();
    assert_eq!(long.status(), 400);
    let message = long.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(["90", "11", "100"].iter().all(|number| message.contains(number)), "{message}");
}

#[tokio::test]
async fn what_cannot_be_served_is_said_in_a_sentence() {
    let good = tempfile::tempdir().unwrap();
    random_checkpoint(good.path(), &config(CONTEXT), 7).unwrap();
    let torn = tempfile::tempdir().unwrap();
    random_checkpoint(torn.path(), &config(CONTEXT), 7).unwrap();
    let weights = torn.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let long = tempfile::tempdir().unwrap();
    random_checkpoint(long.path(), &config(20_000), 7).unwrap();
    let nowhere = good.path().join("nowhere");
    for (folder, extra, named) in [
        (good.path(), "--context-length=193", "193"),
        (long.path(), "--kv-cache-mib=1", "--kv-cache-mib is 1"),
        (torn.path(), "--lookup=true", "model.safetensors"),
        (nowhere.as_path(), "--lookup=true", "nowhere"),
    ] {
        let error = start(folder, &[extra]).await.ended.await.unwrap().unwrap_err();
        assert!(matches!(&error, ServeError::Load(why) if why.contains(named)), "{error}");
    }
}
