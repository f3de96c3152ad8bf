//! A wire to a server: counts what comes through it, and is slow for as long as a test wants to look.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::Error;

/// While it is slow: 32 KiB, and a pause.
const SLOW_CHUNK: usize = 32 << 10;
const SLOW_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    is_released: AtomicBool,
}

/// Forwards TCP connections to a server until it is dropped.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Wire {
    /// Listens at a free port of this address. After so many bytes of answers it is slow (128 KiB/s for each connection) until
    /// [`Self::release`].
    pub async fn start(address: Ipv4Addr, server: String, swift_bytes: u64) -> Result<Self, Error> {
        let listener = TcpListener::bind((address, 0)).await.map_err(Error::io("listen for a wire"))?;
        let address = listener.local_addr().map_err(Error::io("listen for a wire"))?;
        let shared = Arc::<Shared>::default();
        let noted = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server.clone(), Arc::clone(&noted), swift_bytes));
            }
        });
        Ok(Self { shared, address, task })
    }

    /// `HOST:PORT` of this end.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Bytes of answers that came through so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// From now on it is as fast as it can be.
    pub fn release(&self) {
        self.shared.is_released.store(true, Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(client: TcpStream, server: String, shared: Arc<Shared>, swift_bytes: u64) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let asking = async {
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    tokio::join!(asking, answer(from_server, to_client, &shared, swift_bytes));
}

async fn answer(
    mut server: impl AsyncReadExt + Unpin,
    mut client: impl AsyncWriteExt + Unpin,
    shared: &Shared,
    swift_bytes: u64,
) {
    let mut buffer = vec![0; SLOW_CHUNK];
    while let Ok(length @ 1..) = server.read(&mut buffer).await {
        if client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        let before = shared.bytes.fetch_add(length as u64, Ordering::SeqCst);
        if before > swift_bytes && !shared.is_released.load(Ordering::SeqCst) {
            sleep(SLOW_PAUSE).await;
        }
    }
    let _ = client.shutdown().await;
}
