//! Connections: bounded in number and in how long they may take to say what they want.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
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
/// For the answers that are under way when the operator stops.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const AFTER_A_FAILED_ACCEPT: Duration = Duration::from_millis(200);

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

/// Serves until `stop` is cancelled.
pub async fn serve(listener: &TcpListener, configuration: Arc<ServerConfig>, router: Router, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(configuration);
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(listener, &connections) => accepted,
            () = stop.cancelled() => break,
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
    if timeout(LAST_ANSWERS_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off");
    }
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
