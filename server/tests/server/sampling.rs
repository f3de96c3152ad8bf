//! Sampling over HTTP with the real engine: a seed decides the answer, and nothing else does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    engine::{Served, serve_random},
    support::{Server, chat, chat_text, completion, completion_text},
};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const USAGE: &str = "include_usage";

/// Ways to ask for something that is drawn.
fn samplings() -> Vec<Value> {
    vec![
        json!({"temperature": 1}),
        json!({"temperature": 0.7, "top_p": 0.9, "top_k": 50}),
        json!({"temperature": 2, "min_p": 0.05, "frequency_penalty": 1, "presence_penalty": -0.5}),
        json!({"temperature": 1.3, "repetition_penalty": 1.2, "logit_bias": {"40": 5, "41": -100}}),
    ]
}

fn with(base: &Value, extra: &Value) -> Value {
    let mut merged = base.as_object().unwrap().clone();
    merged.extend(extra.as_object().unwrap().clone());
    Value::Object(merged)
}

async fn complete(server: &Server, extra: &Value) -> Value {
    server.answer(COMPLETIONS, &completion("select", &with(&json!({"max_tokens": 60}), extra))).await
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_seed_decides_the_answer_and_the_strategy_does_not() {
    let reference = serve_random(&["--strategy=Autoregressive"]).await.server;
    let others = [
        serve_random(&["--block-size=9", "--adaptive=false"]).await.server,
        serve_random(&["--block-size=16"]).await.server,
    ];
    for sampling in samplings() {
        let mut texts = BTreeSet::new();
        for seed in [0, 1, -7, i64::MAX] {
            let extra = with(&sampling, &json!({"seed": seed}));
            let expected = complete(&reference, &extra).await;
            assert_eq!(expected["metrics"]["seed"], seed);
            texts.insert(text(&expected).to_owned());
            for server in &others {
                let found = complete(server, &extra).await;
                assert_eq!((&found["choices"], &found["usage"]), (&expected["choices"], &expected["usage"]), "{extra}");
                let streamed =
                    with(&extra, &json!({"max_tokens": 60, "stream": true, "stream_options": {USAGE: true}}));
                let events = server.events(COMPLETIONS, &completion("select", &streamed)).await;
                assert_eq!(completion_text(&events, 0), text(&expected), "{streamed}");
                assert_eq!(events.last().unwrap()["metrics"]["seed"], seed);
            }
        }
        assert_eq!(texts.len(), 4, "other seeds, other texts: {sampling}");
    }
}

#[tokio::test]
async fn without_a_seed_the_answer_tells_the_one_that_was_drawn() {
    let Served { server, .. } = serve_random(&[]).await;
    let sampling = json!({"temperature": 1, "max_tokens": 60});
    let first = complete(&server, &sampling).await;
    let second = complete(&server, &sampling).await;
    assert_ne!(first["metrics"]["seed"], second["metrics"]["seed"]);
    assert_ne!(text(&first), text(&second));
    for answer in [&first, &second] {
        let again = complete(&server, &with(&sampling, &json!({"seed": answer["metrics"]["seed"]}))).await;
        assert_eq!(again["choices"], answer["choices"]);
    }

    let streamed = with(&sampling, &json!({"stream": true, "stream_options": {USAGE: true}}));
    let events = server.events(CHAT, &chat("select", &streamed)).await;
    let seed = &events.last().unwrap()["metrics"]["seed"];
    let again = server.answer(CHAT, &chat("select", &with(&sampling, &json!({"seed": seed})))).await;
    assert_eq!(again["choices"][0]["message"]["content"], chat_text(&events));

    let greedy = complete(&server, &json!({"seed": 7})).await;
    assert_eq!(greedy["metrics"].get("seed"), None, "nothing is left to chance");
    assert_eq!(greedy["choices"], complete(&server, &json!({"temperature": 0})).await["choices"]);
}

#[tokio::test]
async fn several_choices_are_several_answers_of_which_each_can_be_had_again() {
    let Served { server, .. } = serve_random(&["--max-concurrent-requests=2"]).await;
    let extra = json!({"temperature": 1, "seed": 3, "n": 3, "max_tokens": 30});
    let answer = server.answer(COMPLETIONS, &completion(json!(["select", "a b"]), &extra)).await;
    let choices = answer["choices"].as_array().unwrap();
    assert!(choices.iter().enumerate().all(|(place, choice)| choice["index"] == place), "{choices:?}");
    let texts: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 6, "{texts:?}");
    let usage = json!({"prompt_tokens": 6 + 3, "completion_tokens": 6 * 30, "total_tokens": 9 + 180});
    assert_eq!(answer["usage"], usage);

    // a prompt alone, with fewer choices, streamed: the same texts
    let extra = json!({"temperature": 1, "seed": 3, "n": 2, "max_tokens": 30, "stream": true});
    let events = server.events(COMPLETIONS, &completion("a b", &extra)).await;
    assert_eq!([0, 1].map(|index| completion_text(&events, index)), texts[3..5]);

    let answer = server.answer(CHAT, &chat("select", &json!({"temperature": 1, "n": 2, "max_tokens": 30}))).await;
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!((&choices[0]["index"], &choices[1]["index"], choices.len()), (&json!(0), &json!(1), 2));
    assert_ne!(choices[0]["message"], choices[1]["message"]);
}

#[tokio::test]
async fn penalties_and_biases_change_greedy_answers_too() {
    let Served { server, .. } = serve_random(&[]).await;
    let plain = complete(&server, &json!({})).await;
    let distinct = |answer: &Value| text(answer).chars().collect::<BTreeSet<_>>().len();
    let penalized = complete(&server, &json!({"frequency_penalty": 2})).await;
    assert!(distinct(&penalized) > distinct(&plain), "{plain} {penalized}");
    // the tokenizer has a token for each byte, after one that begins texts
    let token = u32::from(b'x') + 1;
    let biased = complete(&server, &json!({"logit_bias": {token.to_string(): 100}})).await;
    assert_eq!(text(&biased), "x".repeat(60));
    let mut never = biased.clone();
    for field in ["presence_penalty", "frequency_penalty", "repetition_penalty"] {
        let value = json!({field: 2, "logit_bias": {token.to_string(): 10}});
        never = complete(&server, &value).await;
        assert_ne!(text(&never), text(&biased), "{field}");
    }
    assert!(never["metrics"].get("seed").is_none());
}
