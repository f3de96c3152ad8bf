//! Connections: bounded in number and in how long they may take to say what they want, and how their port closes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// More than API servers ever hold open.
const MOST_CONNECTIONS: usize = 1024;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// From the last answer, or the handshake, to the head of the next request. Clients in Go give an idle connection up after 90 s: it is
/// theirs to end it, or a request could come just as it ends here.
const REQUEST_WITHIN: Duration = Duration::from_secs(120);
const AFTER_A_FAILED_ACCEPT: Duration = Duration::from_millis(200);

/// How a port closes when the operator stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// For so long connections are accepted as before: whoever sends them learns a moment later that nobody should.
    pub accepts_for: Duration,
    /// After that for so long, at most, what is under way is finished.
    pub answers_within: Duration,
}

impl Closing {
    /// After so long, at most, nothing is open any more: before a Pod is killed.
    pub const fn within(self) -> Duration {
        self.accepts_for.saturating_add(self.answers_within)
    }
}

impl Default for Closing {
    /// Within the 30 seconds that the chart gives a Pod.
    fn default() -> Self {
        Self { accepts_for: Duration::from_secs(5), answers_within: Duration::from_secs(10) }
    }
}

/// The certificates that the other side of a connection showed and has the key of, its own first; an extension of every request. Nothing
/// else is known of them.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificates(Arc<[CertificateDer<'static>]>);

impl PeerCertificates {
    /// Its own first; empty if it showed none.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let (_, session) = stream.get_ref();
        Self(session.peer_certificates().unwrap_or_default().into())
    }
}

/// Serves until `stop` is cancelled, and then closes the port.
pub async fn serve(
    listener: TcpListener,
    configuration: Arc<ServerConfig>,
    router: Router,
    stop: CancellationToken,
    closing: Closing,
) {
    let acceptor = TlsAcceptor::from(configuration);
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let router = router.layer(from_fn_with_state(stop.clone(), ask_to_close));
    let mut closes = pin!(async {
        stop.cancelled().await;
        sleep(closing.accepts_for).await;
    });
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut closes => break,
        };
        match accepted {
            Ok((connection, permit)) => {
                let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
                tokio::spawn(async move {
                    answer(acceptor, connection, router, watcher).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection was accepted");
                sleep(AFTER_A_FAILED_ACCEPT).await;
            }
        }
    }
    // Who connects from now on is refused at once, instead of waiting for nothing.
    drop(listener);
    if timeout(closing.answers_within, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off");
    }
}

/// Once the operator stops, every answer asks for the end of its connection: API servers keep theirs open, whatever they know of endpoints,
/// and one that is ended here just as a request comes would lose it.
async fn ask_to_close(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if stop.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The next connection, as soon as there is room for it.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (connection, _) = listener.accept().await?;
    Ok((connection, permit))
}

async fn answer(acceptor: TlsAcceptor, connection: TcpStream, router: Router, watcher: Watcher) {
    let stream = match timeout(HANDSHAKE_WITHIN, acceptor.accept(connection)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
        Err(_) => return tracing::debug!("a handshake took too long"),
    };
    let peer = PeerCertificates::of(&stream);
    let service = router.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        request
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
