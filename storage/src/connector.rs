//! TCP connections, direct or by way of an HTTP proxy: https through a CONNECT tunnel, http by full addresses.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    direct: HttpConnector,
    proxy: Option<Uri>,
}

impl Connector {
    /// By way of the proxy, where there is one.
    pub(crate) fn new(proxy: Option<Uri>) -> Self {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_connect_timeout(Some(CONNECT_TIMEOUT));
        direct.set_nodelay(true);
        Self { direct, proxy }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let mut direct = self.direct.clone();
        match self.proxy.clone() {
            None => Box::pin(async move { Ok(Stream { inner: direct.call(target).await?, is_proxied: false }) }),
            Some(proxy) if target.scheme_str() == Some("https") => Box::pin(async move {
                let inner = Tunnel::new(proxy, direct).call(target).await?;
                Ok(Stream { inner, is_proxied: false })
            }),
            Some(proxy) => Box::pin(async move { Ok(Stream { inner: direct.call(proxy).await?, is_proxied: true }) }),
        }
    }
}

/// A connection.
pub(crate) struct Stream {
    inner: TokioIo<TcpStream>,
    /// Requests must name their whole address.
    is_proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
