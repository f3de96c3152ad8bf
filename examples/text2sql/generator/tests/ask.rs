//! `text2sql-ask` against a server on loopback that answers as the `OpenAI` API does.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use text2sql_generator::database::Shop;
use text2sql_generator::files::write_lines;
use text2sql_generator::pairs::Pair;

const SQL: &str = "SELECT customers.name FROM customers WHERE customers.city = 'Porto';";

/// Answers two requests: the list of models and one completion with `text`. Keeps the bodies that it got.
fn serve(text: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bodies);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), text, &kept);
        }
    });
    (url, bodies)
}

fn answer(mut stream: TcpStream, text: &str, bodies: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request).unwrap();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let response = if request.starts_with("GET /v1/models ") {
        serde_json::json!({ "object": "list", "data": [{ "id": "shop" }] })
    } else {
        bodies.lock().unwrap().push(String::from_utf8(body).unwrap());
        serde_json::json!({ "choices": [{ "text": text }], "metrics": { "tokens_per_forward": 3.25 } })
    };
    let response = response.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
    write!(stream, "{head}: {}\r\n\r\n{response}", response.len()).unwrap();
}

fn ask(url: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let [database, dataset] = ["shop.sqlite", "test.jsonl.gz"].map(|file| folder.path().join(file));
    Shop::new(1).write(&database).unwrap();
    let pair = Pair { intent: "customer-list", question: "Who lives in Porto?".to_owned(), sql: SQL.to_owned() };
    write_lines(&dataset, &[pair]).unwrap();
    Command::new(env!("CARGO_BIN_EXE_text2sql-ask"))
        .args(["--url", url, "--questions", "1"])
        .arg("--database")
        .arg(database)
        .arg("--dataset")
        .arg(dataset)
        .output()
        .unwrap()
}

fn printed(text: &'static str) -> (String, String) {
    let (url, bodies) = serve(text);
    let output = ask(&url);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 1);
    (String::from_utf8(output.stdout).unwrap(), bodies[0].clone())
}

#[test]
fn a_right_answer_is_shown_with_its_rows_and_its_rate() {
    let (shown, body) = printed(SQL);
    for line in ["question: Who lives in Porto?", SQL, "the same rows", "tokens per forward: 3.25"] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["model"], "shop");
    assert_eq!(body["prompt"], "Who lives in Porto?\n");
    assert_eq!(body["max_tokens"], 128);
}

#[test]
fn a_wrong_answer_is_called_wrong() {
    assert!(printed("SELECT customers.name FROM customers;").0.contains("other rows than the reference"));
}

#[test]
fn an_answer_that_is_no_sql_or_would_write_is_refused_and_nothing_changes() {
    for text in ["SELECT FROM WHERE;", "DELETE FROM customers;"] {
        assert!(printed(text).0.contains("the database refuses this query"), "{text}");
    }
}

#[test]
fn a_server_that_does_not_run_is_an_error_in_words() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = ask(&format!("http://127.0.0.1:{port}/v1"));
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("is the server running there?"), "{message}");
}
