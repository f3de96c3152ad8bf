//! By way of a proxy, and with certificates of one's own.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use cllm_storage::Access;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{access, checkpoint, content, get, needed, request};
use cllm_tests::sources::Hub;

type Seen = Arc<Mutex<Vec<String>>>;

/// A forward proxy for plain http; notes the addresses that it is asked for.
async fn proxy() -> (String, Seen) {
    let seen = Seen::default();
    let router = Router::new().fallback(forward).with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    (address, seen)
}

async fn forward(State(seen): State<Seen>, request: Request) -> Response<Body> {
    let url = request.uri().to_string();
    seen.lock().unwrap().push(url.clone());
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = client.request(request.method().clone(), url).headers(request.headers().clone()).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

#[tokio::test]
async fn everything_goes_through_the_proxy() {
    let files = checkpoint(50_000);
    let (hub, (proxy, seen)) = (Hub::start(files.clone()).await, proxy().await);
    let cache = tempfile::tempdir().unwrap();
    let mut access = access(&hub.endpoint, None);
    access.proxy = Some(proxy);
    let fetched = get(&request("hf://org/name", access, cache.path())).await.unwrap();
    assert_eq!(content(&fetched.folder), needed(&files));
    let seen = seen.lock().unwrap();
    assert!(
        seen.iter().any(|url| url.starts_with(&hub.endpoint)) && seen.iter().any(|url| url.contains("/store/")),
        "{seen:?}"
    );
}

/// A proxy that only tunnels; notes where to.
async fn tunnel() -> (String, Seen) {
    let seen = Seen::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(connect(client, Arc::clone(&noted)));
        }
    });
    (address, seen)
}

async fn connect(client: TcpStream, seen: Seen) {
    let mut client = BufReader::new(client);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        client.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line);
    }
    let target = head[0].strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
    seen.lock().unwrap().push(target.clone());
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
}

#[tokio::test]
async fn certificates_of_ones_own_and_a_tunnel_to_them() {
    let files = checkpoint(50_000);
    let (hub, certificate) = Hub::start_encrypted(files.clone()).await;
    let (folder, (proxy, seen)) = (tempfile::tempdir().unwrap(), tunnel().await);
    let bundle = folder.path().join("ca.crt");
    std::fs::write(&bundle, certificate).unwrap();
    let unknown = access(&hub.endpoint, None);
    let error = get(&request("hf://org/name", unknown.clone(), folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    for proxy in [None, Some(proxy)] {
        let cache = tempfile::tempdir().unwrap();
        let access = Access { ca_bundle: Some(bundle.clone()), proxy, ..unknown.clone() };
        let fetched = get(&request("hf://org/name", access, cache.path())).await.unwrap();
        assert_eq!(content(&fetched.folder), needed(&files));
    }
    let endpoint = hub.endpoint.trim_start_matches("https://").to_owned();
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&endpoint) && seen.iter().any(|target| *target != endpoint), "{seen:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let bundle = cache.path().join("ca.crt");
    std::fs::write(&bundle, "no certificate").unwrap();
    let base = access("http://127.0.0.1:9", None);
    for (access, expected) in [
        (Access { ca_bundle: Some(bundle), ..base.clone() }, "ca.crt holds no certificate"),
        (Access { ca_bundle: Some("/does/not/exist".into()), ..base.clone() }, "/does/not/exist cannot be read"),
        (Access { proxy: Some("https://proxy".to_owned()), ..base.clone() }, "write http://HOST:PORT"),
        (Access { endpoint: Some("nowhere".to_owned()), ..base }, "the endpoint is not an address"),
    ] {
        let error = get(&request("hf://org/name", access, cache.path())).await.unwrap_err();
        assert!(error.to_string().contains(expected) && !error.retry_helps(), "{error}");
    }
}
