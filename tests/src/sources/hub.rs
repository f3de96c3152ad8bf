//! A model hub on two ports: the API, which redirects large files to a store on another host, as hubs do. Everything it is asked is noted.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{Files, tls};

/// The commit that `main` is.
pub const COMMIT: &str = "0123456789012345678901234567890123456789";
/// Larger files are kept in the store, with a sha256.
const LARGE: usize = 2048;
const CHUNK: usize = 64 << 10;

/// What the next answer with a file does instead.
#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    /// Breaks off after so many bytes.
    Break(usize),
    /// Goes on after so many bytes only when the hub is released.
    Hold(usize),
    /// Another status, with a `Retry-After`.
    Status(u16),
}

/// A request for a file.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its name.
    pub file: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// Of the store on the other host.
    pub in_store: bool,
    /// Bytes that it was about to be answered with.
    pub served: usize,
}

struct Shared {
    files: Mutex<Files>,
    /// Announced instead of the true one.
    announced: Mutex<Option<String>>,
    token: Mutex<Option<String>>,
    mishaps: Mutex<VecDeque<Mishap>>,
    asked: Mutex<Vec<Asked>>,
    lists: Mutex<usize>,
    released: watch::Sender<bool>,
    store: Mutex<String>,
}

/// A running hub, as long as the runtime of its test runs.
pub struct Hub {
    shared: Arc<Shared>,
    /// `http://HOST:PORT` of the API.
    pub endpoint: String,
    servers: [JoinHandle<()>; 2],
}

impl Hub {
    /// On loopback, with these files in every repository.
    pub async fn start(files: Files) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, files).await
    }

    /// The same at another address of this machine.
    pub async fn start_at(address: Ipv4Addr, files: Files) -> Self {
        Self::start_with(address, files, None).await
    }

    /// Over https, with a certificate of its own: answers it as PEM.
    pub async fn start_encrypted(files: Files) -> (Self, String) {
        let (acceptor, certificate) = tls::acceptor();
        (Self::start_with(Ipv4Addr::LOCALHOST, files, Some(acceptor)).await, certificate)
    }

    async fn start_with(address: Ipv4Addr, files: Files, acceptor: Option<TlsAcceptor>) -> Self {
        let shared = Arc::new(Shared {
            files: Mutex::new(files),
            announced: Mutex::default(),
            token: Mutex::default(),
            mishaps: Mutex::default(),
            asked: Mutex::default(),
            lists: Mutex::default(),
            released: watch::Sender::new(false),
            store: Mutex::default(),
        });
        let api = Router::new()
            .route("/api/models/{org}/{name}/revision/{revision}", get(list))
            .route("/{org}/{name}/resolve/{commit}/{file}", get(resolve))
            .with_state(Arc::clone(&shared));
        let store = Router::new().route("/store/{file}", get(stored)).with_state(Arc::clone(&shared));
        let (endpoint, api) = serve(address, api, acceptor.clone()).await;
        let (store_endpoint, store) = serve(address, store, acceptor).await;
        *shared.store.lock().unwrap() = store_endpoint;
        Self { shared, endpoint, servers: [api, store] }
    }

    /// From now on only those with this token are answered.
    pub fn require_token(&self, token: &str) {
        *self.shared.token.lock().unwrap() = Some(token.to_owned());
    }

    /// What the next answers with a file do instead, in this order.
    pub fn will(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.shared.mishaps.lock().unwrap().extend(mishaps);
    }

    /// The sha256 that is announced for large files.
    pub fn announce(&self, sha256: &str) {
        *self.shared.announced.lock().unwrap() = Some(sha256.to_owned());
    }

    /// Another content of a file.
    pub fn change(&self, file: &str, content: Vec<u8>) {
        self.shared.files.lock().unwrap().insert(file.to_owned(), content);
    }

    /// Answers that are held go on.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Requests for a file.
    pub fn asked(&self, file: &str) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().iter().filter(|asked| asked.file == file).cloned().collect()
    }

    /// All requests for files.
    pub fn all_asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How often the list of files was asked for.
    pub fn lists(&self) -> usize {
        *self.shared.lists.lock().unwrap()
    }

    /// From now on nobody answers.
    pub async fn stop(self) {
        for server in self.servers {
            server.abort();
            drop(server.await);
        }
    }
}

async fn serve(address: Ipv4Addr, router: Router, acceptor: Option<TlsAcceptor>) -> (String, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    match acceptor {
        None => {
            let server = axum::serve(listener, router).into_future();
            (format!("http://{address}"), tokio::spawn(async move { server.await.unwrap() }))
        }
        Some(acceptor) => {
            let server = axum::serve(tls::Listener { listener, acceptor }, router).into_future();
            (format!("https://{address}"), tokio::spawn(async move { server.await.unwrap() }))
        }
    }
}

async fn list(
    State(shared): State<Arc<Shared>>,
    Path((_, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    *shared.lists.lock().unwrap() += 1;
    check_token(&shared, &headers)?;
    let mut mishaps = shared.mishaps.lock().unwrap();
    if let Some(Mishap::Status(status)) = mishaps.front().copied() {
        mishaps.pop_front();
        return Err(StatusCode::from_u16(status).unwrap());
    }
    if name == "gated" {
        return Err(StatusCode::FORBIDDEN);
    }
    if name == "missing" || !["main", COMMIT].contains(&revision.as_str()) {
        return Err(StatusCode::NOT_FOUND);
    }
    let files = shared.files.lock().unwrap();
    // as mirrors list them that do not look at sizes
    let is_bare = name == "bare";
    let one = |(name, content): (&String, &Vec<u8>)| {
        if is_bare { json!({"rfilename": name}) } else { sibling(&shared, name, content) }
    };
    let siblings: Vec<Value> = files.iter().map(one).collect();
    Ok(Json(json!({"id": format!("org/{name}"), "sha": COMMIT, "siblings": siblings})))
}

/// Small files without a size, as mirrors list them, so that their heads must be asked for.
fn sibling(shared: &Shared, name: &str, content: &[u8]) -> Value {
    if content.len() < LARGE {
        return json!({"rfilename": name});
    }
    let sha256 = shared.announced.lock().unwrap().clone().unwrap_or_else(|| format!("{:x}", Sha256::digest(content)));
    json!({"rfilename": name, "size": content.len(), "lfs": {"sha256": sha256, "size": content.len(), "pointerSize": 130}})
}

async fn resolve(
    State(shared): State<Arc<Shared>>,
    Path((_, _, commit, file)): Path<(String, String, String, String)>,
    request: Request,
) -> Result<Response<Body>, StatusCode> {
    check_token(&shared, request.headers())?;
    let content = shared.files.lock().unwrap().get(&file).cloned().ok_or(StatusCode::NOT_FOUND)?;
    if content.len() < LARGE {
        return Ok(answer(&shared, &file, &content, &request, false, &commit));
    }
    let sha256 = format!("{:x}", Sha256::digest(&content));
    let location = format!("{}/store/{file}?signature=very-secret", shared.store.lock().unwrap());
    if request.method() == "GET" {
        shared.asked.lock().unwrap().push(asked(&file, &request, false, 0));
    }
    Ok(Response::builder()
        .status(302)
        .header("location", location)
        .header("x-repo-commit", commit)
        .header("x-linked-etag", format!("\"{sha256}\""))
        .header("x-linked-size", content.len())
        .body(Body::empty())
        .unwrap())
}

async fn stored(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    request: Request,
) -> Result<Response<Body>, StatusCode> {
    if request.method() == "HEAD" {
        // the signature of the address is good for GET alone
        return Err(StatusCode::FORBIDDEN);
    }
    let content = shared.files.lock().unwrap().get(&file).cloned().ok_or(StatusCode::NOT_FOUND)?;
    Ok(answer(&shared, &file, &content, &request, true, COMMIT))
}

fn check_token(shared: &Shared, headers: &HeaderMap) -> Result<(), StatusCode> {
    let Some(token) = shared.token.lock().unwrap().clone() else { return Ok(()) };
    let found = headers.get("authorization").and_then(|value| value.to_str().ok());
    if found == Some(&format!("Bearer {token}")) { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}

/// The bytes from the range on, if the condition holds; with the next mishap.
fn answer(
    shared: &Arc<Shared>,
    file: &str,
    content: &[u8],
    request: &Request,
    in_store: bool,
    commit: &str,
) -> Response<Body> {
    let etag = format!("\"{:x}\"", Sha256::digest(content));
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let start =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let start = start.filter(|_| header("if-range").is_none_or(|tag| tag == etag));
    let is_get = request.method() == "GET";
    let mishap = if is_get { shared.mishaps.lock().unwrap().pop_front() } else { None };
    let rest = content[start.unwrap_or(0)..].to_vec();
    let limit = match mishap {
        Some(Mishap::Break(limit) | Mishap::Hold(limit)) => limit.min(rest.len()),
        Some(Mishap::Status(_)) => 0,
        None => rest.len(),
    };
    if is_get {
        shared.asked.lock().unwrap().push(asked(file, request, in_store, limit));
    }
    if let Some(Mishap::Status(status)) = mishap {
        return Response::builder().status(status).header("retry-after", "0").body(Body::empty()).unwrap();
    }
    let mut response = Response::builder()
        .status(if start.is_some() { 206 } else { 200 })
        .header("etag", etag)
        .header("x-repo-commit", commit)
        .header("content-length", rest.len());
    if let Some(start) = start {
        response = response.header("content-range", format!("bytes {start}-{}/{}", content.len() - 1, content.len()));
    }
    response.body(body(rest, limit, mishap, shared.released.subscribe())).unwrap()
}

fn asked(file: &str, request: &Request, in_store: bool, served: usize) -> Asked {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    Asked {
        file: file.to_owned(),
        range: request.headers().get("range").map(text),
        authorization: request.headers().get("authorization").map(text),
        in_store,
        served,
    }
}

fn body(content: Vec<u8>, limit: usize, mishap: Option<Mishap>, released: watch::Receiver<bool>) -> Body {
    let stream = stream::unfold((0, content, released), move |(at, content, mut released)| async move {
        if at >= content.len() {
            return None;
        }
        if at >= limit {
            match mishap {
                Some(Mishap::Break(_)) => {
                    // what was sent shall arrive before the end does
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    return Some((Err(std::io::Error::other("broken on demand")), (usize::MAX, content, released)));
                }
                Some(Mishap::Hold(_)) => drop(released.wait_for(|released| *released).await),
                _ => {}
            }
        }
        let end = if at < limit { (at + CHUNK).min(limit) } else { (at + CHUNK).min(content.len()) };
        let chunk = Bytes::copy_from_slice(&content[at..end]);
        Some((Ok(chunk), (end, content, released)))
    });
    Body::from_stream(stream)
}
