//! `cllm chat` against canned answers: what is asked, what is printed, what is refused.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use assert_cmd::Command;
use serde_json::{Value, json};

const MODELS: &str = r#"{"object":"list","data":[{"id":"shop-sql"},{"id":"other"}]}"#;

/// A server that gives `answers` in turn to whatever is not the list of models; the requests come back on the channel.
fn serve(answers: Vec<(u16, String)>) -> (String, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).unwrap();
            }
            let length =
                head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let (status, answer) =
                if path == "/v1/models" { (200, MODELS.to_owned()) } else { answers.next().unwrap() };
            let _ = sender.send((path, serde_json::from_slice(&body).unwrap_or_default()));
            let length = answer.len();
            write!(
                stream.get_mut(),
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{answer}"
            )
            .unwrap();
        }
    });
    (url, requests)
}

fn events(chunks: &[Value]) -> String {
    let lines: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    lines.concat() + "data: [DONE]\n\n"
}

fn last_chunk() -> Value {
    json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 24, "total_tokens": 29},
           "metrics": {"tokens_per_forward": 3.2857}})
}

fn chat_answer() -> String {
    let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}], "usage": null});
    events(&[
        delta(json!({"role": "assistant"})),
        delta(json!({"content": "SELECT "})),
        delta(json!({"content": "1"})),
        last_chunk(),
    ])
}

fn completion_answer() -> String {
    let text = |text: &str| json!({"choices": [{"index": 0, "text": text}]});
    events(&[text("SELECT "), text("2"), last_chunk()])
}

fn chat(url: &str, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::cargo_bin("cllm").unwrap();
    let output = command.args(["chat", "--url", url]).args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn one_prompt_is_streamed_and_its_speed_is_told() {
    let (url, requests) = serve(vec![(200, chat_answer())]);
    let (code, stdout, stderr) = chat(&url, &["how many?", "--max-tokens", "9"], "");
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "SELECT 1\n", "[24 tokens, 3.29 per forward]\n"));
    assert_eq!(requests.recv().unwrap().0, "/v1/models");
    let (path, body) = requests.recv().unwrap();
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(body["model"], "shop-sql", "the first of the list");
    assert_eq!(body["messages"], json!([{"role": "user", "content": "how many?"}]));
    assert_eq!((&body["max_tokens"], &body["stream_options"]["include_usage"]), (&9.into(), &true.into()));
}

#[test]
fn every_line_of_standard_input_is_a_prompt_of_its_own() {
    let (url, requests) = serve(vec![(200, completion_answer()), (200, completion_answer())]);
    let (code, stdout, stderr) = chat(&url, &["--completion", "--model", "m", "--json"], "first\n\nsecond\n");
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let prompts: Vec<&Value> = lines.iter().map(|line| &line["prompt"]).collect();
    assert_eq!(prompts, ["first", "second"]);
    assert_eq!(lines[0]["text"], "SELECT 2");
    assert_eq!(lines[0]["usage"]["completion_tokens"], 24);
    assert_eq!(lines[0]["metrics"]["tokens_per_forward"], 3.2857);
    let (path, body) = requests.recv().unwrap();
    assert_eq!((path.as_str(), &body["prompt"], &body["model"]), ("/v1/completions", &"first".into(), &"m".into()));
}

#[test]
fn a_drawn_answer_is_asked_for_by_temperature_and_told_with_its_seed() {
    let drawn = |seed: i64| {
        let mut chunk = last_chunk();
        chunk["metrics"]["seed"] = seed.into();
        (200, events(&[json!({"choices": [{"index": 0, "delta": {"content": "x"}}]}), chunk]))
    };
    let (url, requests) = serve(vec![drawn(77), drawn(-5), (200, chat_answer())]);
    for (arguments, temperature, seed, told) in [
        (&["--temperature", "0.8"][..], 0.8, Value::Null, ", seed 77]"),
        (&["--temperature", "1", "--seed", "-5"], 1.0, json!(-5), ", seed -5]"),
        (&[], 0.0, Value::Null, " per forward]"),
    ] {
        let (code, _, stderr) = chat(&url, &[&["--model", "m", "x"], arguments].concat(), "");
        assert!(code == 0 && stderr.trim_end().ends_with(told), "{arguments:?}: {stderr}");
        let (_, body) = requests.recv().unwrap();
        assert_eq!((body["temperature"].as_f64(), &body["seed"]), (Some(temperature), &seed), "{arguments:?}");
    }
    let (code, _, stderr) = chat(&url, &["--seed", "1", "x"], "");
    assert!(code == 2 && stderr.contains("--temperature"), "{stderr}");
}

#[test]
fn refusals_and_broken_answers_are_told_in_words() {
    let refusal = json!({"error": {"message": "the prompt has 900 tokens, but the context has 512"}}).to_string();
    let failing = format!("data: {}\n\n", json!({"error": {"message": "the engine stopped"}}));
    for (answer, expected) in [
        ((400, refusal), "the server answered 400: the prompt has 900 tokens, but the context has 512"),
        ((503, "busy".to_owned()), "the server answered 503: busy"),
        ((200, "data: {\"choices\": []}\n\n".to_owned()), "it ended before it was complete"),
        ((200, "data: x\n\n".to_owned()), "is it an OpenAI API?"),
        ((200, failing), "the engine stopped"),
    ] {
        let (url, _requests) = serve(vec![answer]);
        let (code, _, stderr) = chat(&url, &["--model", "m", "x"], "");
        assert_eq!(code, 1);
        assert!(stderr.contains(expected), "no '{expected}' in: {stderr}");
    }
}

#[test]
fn nobody_there_and_other_protocols() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, expected) in
        [(format!("http://{free}/v1"), "is the model up?"), ("https://x/v1".to_owned(), "does not start with http://")]
    {
        let (code, _, stderr) = chat(&url, &["x"], "");
        assert_eq!(code, 1);
        assert!(stderr.contains(expected) && stderr.contains(&url), "{stderr}");
    }
}
