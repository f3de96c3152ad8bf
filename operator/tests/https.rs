//! How the HTTPS port closes: it is open for a moment more, then it takes nobody, and what is under way is finished, within bounds.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, Response, header};
use axum::routing::get;
use cllm_operator::certificates::{Served, pair_of};
use cllm_operator::https::{Closing, configuration, serve};
use kube::client::Body;
use kube::{Client, Config};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(60);
const NAME: &str = "operator.test";

/// A port that serves until it is told to stop.
struct Port {
    address: SocketAddr,
    certificate: Vec<u8>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Port {
    async fn open(router: Router, closing: Closing) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        let pair = pair_of(made.cert.pem().as_bytes(), key.as_bytes()).unwrap();
        let (certificate, served) = Served::channel();
        certificate.send_replace(Some(Arc::new(pair)));
        let tls = Arc::new(configuration(Arc::new(served)).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, tls, router, stop.clone(), closing));
        Self { address, certificate: made.cert.der().to_vec(), stop, task }
    }

    /// The answer to a request on a connection of its own.
    fn ask(&self) -> impl Future<Output = kube::Result<Response<Body>>> + use<> {
        let mut config = Config::new(format!("https://{}", self.address).parse().unwrap());
        config.root_cert = Some(vec![self.certificate.clone()]);
        config.tls_server_name = Some(NAME.to_owned());
        async { Client::try_from(config)?.send(Request::get("/").body(Body::empty()).unwrap()).await }
    }

    /// Whether the answer on a new connection asks for the end of it.
    async fn says_good_bye(&self) -> bool {
        let answer = timeout(SOON, self.ask()).await.unwrap().unwrap();
        answer.headers().get(header::CONNECTION) == Some(&HeaderValue::from_static("close"))
    }
}

/// A router whose only answer waits; that it was asked for, and may be given.
fn slow() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (asked, given) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (is_asked, may_be_given) = (asked.clone(), given.clone());
    let answer = move || {
        let (is_asked, may_be_given) = (is_asked.clone(), may_be_given.clone());
        async move {
            is_asked.notify_one();
            may_be_given.notified().await;
        }
    };
    (Router::new().route("/", get(answer)), asked, given)
}

#[tokio::test]
async fn told_to_stop_it_goes_on_accepting_and_ends_each_connection_with_its_answer() {
    let router = Router::new().route("/", get(async || "ok"));
    let port = Port::open(router, Closing { accepts_for: HOUR, answers_within: HOUR }).await;
    assert!(!port.says_good_bye().await);
    port.stop.cancel();
    for _ in 0..3 {
        assert!(port.says_good_bye().await);
    }
    assert!(!port.task.is_finished());
    port.task.abort();
}

#[tokio::test]
async fn then_it_takes_nobody_and_finishes_what_is_under_way() {
    let (router, asked, given) = slow();
    let port = Port::open(router, Closing { accepts_for: Duration::ZERO, answers_within: HOUR }).await;
    let answer = tokio::spawn(port.ask());
    timeout(SOON, asked.notified()).await.unwrap();
    port.stop.cancel();
    let refused = async {
        while TcpStream::connect(port.address).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, refused).await.unwrap();
    assert!(!port.task.is_finished());
    given.notify_one();
    assert!(timeout(SOON, answer).await.unwrap().unwrap().unwrap().status().is_success());
    timeout(SOON, port.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_that_never_comes_does_not_keep_it_from_ending() {
    let (router, asked, _never) = slow();
    let closing = Closing { accepts_for: Duration::ZERO, answers_within: Duration::from_millis(10) };
    let port = Port::open(router, closing).await;
    let answer = tokio::spawn(port.ask());
    timeout(SOON, asked.notified()).await.unwrap();
    port.stop.cancel();
    timeout(SOON, port.task).await.unwrap().unwrap();
    answer.abort();
}
