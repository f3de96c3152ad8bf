//! The real servers, each with a port and a folder of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::Path,
    time::Duration,
};

use tokio::net::TcpStream;

use crate::{
    Error, eventually,
    process::{Folder, Process},
    programs,
};

const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// A running server. It ends, and its folder goes, when it is dropped or this process ends in whatever way.
#[derive(Debug)]
pub struct Server {
    // In this order they are dropped.
    _process: Process,
    address: SocketAddrV4,
    folder: Folder,
}

impl Server {
    /// Starts the program with the flags that its address and folder make, and waits until it listens.
    pub(super) async fn start(
        program: &'static str,
        address: Ipv4Addr,
        flags: impl FnOnce(SocketAddrV4, &Path) -> std::io::Result<Vec<String>>,
    ) -> Result<Self, Error> {
        let programs = programs::folder(&["storage"]).await?;
        let folder = Folder::create(None)?;
        let address = free_port(address).map_err(Error::io(format!("find a free port for {program}")))?;
        let flags = flags(address, &folder.path).map_err(Error::io(format!("write the configuration of {program}")))?;
        let process = Process::start(&programs, program, flags, &folder.path)?;
        eventually(&format!("{program} to listen"), LISTENS_WITHIN, async || TcpStream::connect(address).await).await?;
        Ok(Self { _process: process, address, folder })
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where it keeps what it has; of the S3 server the folders in it are the buckets.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }
}

fn free_port(address: Ipv4Addr) -> std::io::Result<SocketAddrV4> {
    let port = TcpListener::bind((address, 0))?.local_addr()?.port();
    Ok(SocketAddrV4::new(address, port))
}

/// The access key of [`s3`].
pub const ACCESS_KEY: &str = "test-access";
/// The secret key of [`s3`].
pub const SECRET_KEY: &str = "test-hidden-secret";

/// An S3 server over a folder, with an empty bucket `bucket`.
pub async fn s3(address: Ipv4Addr) -> Result<Server, Error> {
    Server::start("versitygw", address, |address, folder| {
        let buckets = folder.join("buckets");
        fs::create_dir_all(buckets.join("bucket"))?;
        let flags = ["--port", &address.to_string(), "--access", ACCESS_KEY, "--secret", SECRET_KEY, "posix"];
        Ok(flags.into_iter().map(str::to_owned).chain([buckets.display().to_string()]).collect())
    })
    .await
}
